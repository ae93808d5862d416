// SPDX-License-Identifier: Apache-2.0
#include "triton/common/logging.h"

#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

namespace triton { namespace common {

void LogLine(char level, const char* file, int line, const char* message) {
#ifdef TRITON_ENABLE_LOGGING
  timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  tm parts;
  gmtime_r(&now.tv_sec, &parts);
  const char* name = strrchr(file, '/');
  fprintf(stderr, "%c%02d%02d %02d:%02d:%02d.%06ld %d %s:%d] %s\n", level, parts.tm_mon + 1,
          parts.tm_mday, parts.tm_hour, parts.tm_min, parts.tm_sec, now.tv_nsec / 1000, getpid(),
          name == nullptr ? file : name + 1, line, message);
#endif
}

}}  // namespace triton::common

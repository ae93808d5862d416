// SPDX-License-Identifier: Apache-2.0
#pragma once

namespace triton { namespace common {

// Writes `E1121 09:33:00.123456 PID file.cc:12] message` to stderr; level is I, W or E.
void LogLine(char level, const char* file, int line, const char* message);

}}  // namespace triton::common

#define LOG_INFO(text) triton::common::LogLine('I', __FILE__, __LINE__, text)
#define LOG_WARNING(text) triton::common::LogLine('W', __FILE__, __LINE__, text)
#define LOG_ERROR(text) triton::common::LogLine('E', __FILE__, __LINE__, text)

// SPDX-License-Identifier: Apache-2.0
#include "triton/common/async_work_queue.h"

#include <pthread.h>

namespace triton { namespace common {

bool AsyncWorkQueue::AddTask(void* (*task)(void*), void* arg) {
  pthread_t thread;
  return pthread_create(&thread, nullptr, task, arg) == 0 && pthread_detach(thread) == 0;
}

}}  // namespace triton::common

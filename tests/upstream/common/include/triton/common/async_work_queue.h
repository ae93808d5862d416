// SPDX-License-Identifier: Apache-2.0
#pragma once

namespace triton { namespace common {

// Runs `task(arg)` on a thread of its own.
class AsyncWorkQueue {
 public:
  static bool AddTask(void* (*task)(void*), void* arg);
};

}}  // namespace triton::common

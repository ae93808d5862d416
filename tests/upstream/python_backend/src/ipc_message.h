// SPDX-License-Identifier: Apache-2.0
// Messages between the backend and its stub: over pipes, each with its length and a checksum.
#pragma once

#include <dlpack/dlpack.h>

#include <string>

namespace triton { namespace backend { namespace python {

constexpr DLDeviceType kDevice = kDLCPU;

// Both return false where the other side is gone or the message is broken.
bool Send(int fd, const std::string& message);
bool Receive(int fd, std::string* message);

}}}  // namespace triton::backend::python

// SPDX-License-Identifier: Apache-2.0
#include "ipc_message.h"

#include <unistd.h>

#include <boost/container_hash/hash.hpp>
#include <boost/version.hpp>
#include <cerrno>
#include <cstdint>

// Not the system's Boost, but the one that was fetched.
static_assert(BOOST_VERSION == 107900, "Boost 1.79 is expected");

namespace triton { namespace backend { namespace python {

namespace {

bool WriteAll(int fd, const char* data, size_t size) {
  while (size > 0) {
    const ssize_t done = write(fd, data, size);
    if (done < 0 && errno == EINTR) continue;
    if (done <= 0) return false;
    data += done;
    size -= size_t(done);
  }
  return true;
}

bool ReadAll(int fd, char* data, size_t size) {
  while (size > 0) {
    const ssize_t done = read(fd, data, size);
    if (done < 0 && errno == EINTR) continue;
    if (done <= 0) return false;
    data += done;
    size -= size_t(done);
  }
  return true;
}

}  // namespace

bool Send(int fd, const std::string& message) {
  const uint64_t head[2] = {message.size(), boost::hash<std::string>()(message)};
  return WriteAll(fd, reinterpret_cast<const char*>(head), sizeof(head)) &&
         WriteAll(fd, message.data(), message.size());
}

bool Receive(int fd, std::string* message) {
  uint64_t head[2];
  if (!ReadAll(fd, reinterpret_cast<char*>(head), sizeof(head))) return false;
  message->resize(head[0]);
  return ReadAll(fd, &(*message)[0], message->size()) &&
         boost::hash<std::string>()(*message) == head[1];
}

}}}  // namespace triton::backend::python

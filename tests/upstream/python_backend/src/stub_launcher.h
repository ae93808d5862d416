// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <sys/types.h>

#include <string>

namespace triton { namespace backend { namespace python {

// One stub process and the two pipes to it.
class StubLauncher {
 public:
  // Starts `program backend_dir model_path name`; returns what went wrong, or nothing.
  std::string Launch(const std::string& program, const std::string& backend_dir,
                     const std::string& model_path, const std::string& name);
  // Asks and waits for the answer; false where the stub died.
  bool Ask(const std::string& question, std::string* answer);
  // Closes the pipes, which ends the stub, and waits for it.
  ~StubLauncher();

 private:
  pid_t pid_ = -1;
  int to_stub_ = -1, from_stub_ = -1;
};

}}}  // namespace triton::backend::python

// SPDX-License-Identifier: Apache-2.0
#include "stub_launcher.h"

#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "ipc_message.h"

extern char** environ;

namespace triton { namespace backend { namespace python {

std::string StubLauncher::Launch(
    const std::string& program, const std::string& backend_dir, const std::string& model_path,
    const std::string& name) {
  int down[2], up[2];
  if (pipe2(down, O_CLOEXEC) != 0) return strerror(errno);
  if (pipe2(up, O_CLOEXEC) != 0) {
    const std::string why = strerror(errno);
    close(down[0]);
    close(down[1]);
    return why;
  }
  // Standard input and file 3 are the stub's ends; all else of ours closes by itself.
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_adddup2(&actions, down[0], 0);
  posix_spawn_file_actions_adddup2(&actions, up[1], 3);
  // The server blocks signals; a terminal's Ctrl-C is for the server alone.
  posix_spawnattr_t attributes;
  posix_spawnattr_init(&attributes);
  sigset_t none;
  sigemptyset(&none);
  posix_spawnattr_setsigmask(&attributes, &none);
  posix_spawnattr_setpgroup(&attributes, 0);
  posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETPGROUP);
  const char* argv[] = {program.c_str(), backend_dir.c_str(), model_path.c_str(), name.c_str(),
                        nullptr};
  const int error = posix_spawn(&pid_, program.c_str(), &actions, &attributes,
                                const_cast<char**>(argv), environ);
  posix_spawn_file_actions_destroy(&actions);
  posix_spawnattr_destroy(&attributes);
  close(down[0]);
  close(up[1]);
  to_stub_ = down[1];
  from_stub_ = up[0];
  if (error == 0) return "";
  pid_ = -1;
  return program + ": " + strerror(error);
}

bool StubLauncher::Ask(const std::string& question, std::string* answer) {
  return Send(to_stub_, question) && Receive(from_stub_, answer);
}

StubLauncher::~StubLauncher() {
  if (to_stub_ >= 0) close(to_stub_);
  if (from_stub_ >= 0) close(from_stub_);
  if (pid_ > 0) {
    while (waitpid(pid_, nullptr, 0) < 0 && errno == EINTR) {
    }
  }
}

}}}  // namespace triton::backend::python

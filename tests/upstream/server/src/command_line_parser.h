// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <vector>

struct Endpoint {
  bool enabled = true;
  std::string address = "0.0.0.0";
  int port = 0;
};

struct Parameters {
  std::vector<std::string> repositories, load_models;
  std::string backend_directory = "/opt/tritonserver/backends", control_mode = "none";
  bool exit_on_error = true, strict_readiness = true, auto_complete = true;
  Endpoint http, grpc, metrics;
};

// Ends the process for --help and for options that this build does not have.
Parameters ParseCommandLine(int argc, char** argv);

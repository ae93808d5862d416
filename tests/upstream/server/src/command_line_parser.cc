// SPDX-License-Identifier: Apache-2.0
#include "command_line_parser.h"

#include <getopt.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace {

enum Option {
  HELP = 1000, REPOSITORY, BACKENDS, IGNORED, CONTROL_MODE, LOAD_MODEL, EXIT_ON_ERROR,
  STRICT_READINESS, STRICT_CONFIG, NO_AUTO_COMPLETE,
  ALLOW_HTTP, HTTP_ADDRESS, HTTP_PORT, ALLOW_GRPC, GRPC_ADDRESS, GRPC_PORT,
  ALLOW_METRICS, METRICS_ADDRESS, METRICS_PORT
};

const option kOptions[] = {
    {"help", no_argument, nullptr, HELP},
    {"model-store", required_argument, nullptr, REPOSITORY},
#ifndef TRITON_SERVER_OF_2020
    {"model-repository", required_argument, nullptr, REPOSITORY},
    {"cache-directory", required_argument, nullptr, IGNORED},
#endif
    {"backend-directory", required_argument, nullptr, BACKENDS},
    {"repoagent-directory", required_argument, nullptr, IGNORED},
    {"backend-config", required_argument, nullptr, IGNORED},
    {"log-verbose", required_argument, nullptr, IGNORED},
    {"log-info", required_argument, nullptr, IGNORED},
    {"id", required_argument, nullptr, IGNORED},
    {"exit-timeout-secs", required_argument, nullptr, IGNORED},
    {"min-supported-compute-capability", required_argument, nullptr, IGNORED},
    {"model-control-mode", required_argument, nullptr, CONTROL_MODE},
    {"load-model", required_argument, nullptr, LOAD_MODEL},
    {"exit-on-error", required_argument, nullptr, EXIT_ON_ERROR},
    {"strict-readiness", required_argument, nullptr, STRICT_READINESS},
    {"strict-model-config", required_argument, nullptr, STRICT_CONFIG},
    {"disable-auto-complete-config", no_argument, nullptr, NO_AUTO_COMPLETE},
#ifdef TRITON_ENABLE_HTTP
    {"allow-http", required_argument, nullptr, ALLOW_HTTP},
#ifndef TRITON_SERVER_OF_2020
    {"http-address", required_argument, nullptr, HTTP_ADDRESS},
#endif
    {"http-port", required_argument, nullptr, HTTP_PORT},
#endif
#ifdef TRITON_ENABLE_GRPC
    {"allow-grpc", required_argument, nullptr, ALLOW_GRPC},
    {"grpc-address", required_argument, nullptr, GRPC_ADDRESS},
    {"grpc-port", required_argument, nullptr, GRPC_PORT},
#endif
#ifdef TRITON_ENABLE_METRICS
    {"allow-metrics", required_argument, nullptr, ALLOW_METRICS},
#ifndef TRITON_SERVER_OF_2020
    {"metrics-address", required_argument, nullptr, METRICS_ADDRESS},
#endif
    {"metrics-port", required_argument, nullptr, METRICS_PORT},
#endif
    {nullptr, 0, nullptr, 0}};

[[noreturn]] void Usage(int code) {
  fprintf(code == 0 ? stdout : stderr, "Usage: tritonserver [options]\n");
  for (const option* one = kOptions; one->name != nullptr; ++one)
    fprintf(code == 0 ? stdout : stderr, "  --%s%s\n", one->name, one->has_arg ? " <value>" : "");
  exit(code);
}

bool ParseBool(const char* text) {
  for (const char* yes : {"true", "True", "1"})
    if (strcmp(text, yes) == 0) return true;
  for (const char* no : {"false", "False", "0"})
    if (strcmp(text, no) == 0) return false;
  fprintf(stderr, "invalid value for bool option: %s\n", text);
  exit(1);
}

int ParsePort(const char* text) {
  char* end = nullptr;
  const long port = strtol(text, &end, 10);
  if (*text != '\0' && *end == '\0' && port > 0 && port < 65536) return int(port);
  fprintf(stderr, "invalid port: %s\n", text);
  exit(1);
}

}  // namespace

Parameters ParseCommandLine(int argc, char** argv) {
  Parameters found;
  found.http.port = 8000;
  found.grpc.port = 8001;
  found.metrics.port = 8002;
#ifndef TRITON_ENABLE_HTTP
  found.http.enabled = false;
#endif
#ifndef TRITON_ENABLE_GRPC
  found.grpc.enabled = false;
#endif
#ifndef TRITON_ENABLE_METRICS
  found.metrics.enabled = false;
#endif
  for (int flag; (flag = getopt_long(argc, argv, "", kOptions, nullptr)) != -1;) {
    switch (flag) {
      case HELP: Usage(0);
      case REPOSITORY: found.repositories.push_back(optarg); break;
      case BACKENDS: found.backend_directory = optarg; break;
      case IGNORED: break;
      case CONTROL_MODE: found.control_mode = optarg; break;
      case LOAD_MODEL: found.load_models.push_back(optarg); break;
      case EXIT_ON_ERROR: found.exit_on_error = ParseBool(optarg); break;
      case STRICT_READINESS: found.strict_readiness = ParseBool(optarg); break;
      case STRICT_CONFIG: found.auto_complete = !ParseBool(optarg); break;
      case NO_AUTO_COMPLETE: found.auto_complete = false; break;
      case ALLOW_HTTP: found.http.enabled = ParseBool(optarg); break;
      case HTTP_ADDRESS: found.http.address = optarg; break;
      case HTTP_PORT: found.http.port = ParsePort(optarg); break;
      case ALLOW_GRPC: found.grpc.enabled = ParseBool(optarg); break;
      case GRPC_ADDRESS: found.grpc.address = optarg; break;
      case GRPC_PORT: found.grpc.port = ParsePort(optarg); break;
      case ALLOW_METRICS: found.metrics.enabled = ParseBool(optarg); break;
      case METRICS_ADDRESS: found.metrics.address = optarg; break;
      case METRICS_PORT: found.metrics.port = ParsePort(optarg); break;
      default: Usage(1);
    }
  }
  if (optind < argc) {
    fprintf(stderr, "tritonserver: unexpected argument '%s'\n", argv[optind]);
    Usage(1);
  }
  if (found.repositories.empty()) {
    fprintf(stderr, "Failed to start: --model-repository must be specified\n");
    Usage(1);
  }
  return found;
}

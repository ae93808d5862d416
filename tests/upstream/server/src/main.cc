// SPDX-License-Identifier: Apache-2.0
#include <signal.h>

#include <cerrno>
#include <cstdio>
#include <cstring>

#include "command_line_parser.h"
#include "http_server.h"
#include "triton/core/tritonserver.h"

#define LOG(level, text) TRITONSERVER_LogMessage(level, __FILE__, __LINE__, (text).c_str())

namespace {

std::string Quote(const std::string& text) {
  std::string quoted = "\"";
  for (unsigned char c : text) {
    char code[8];
    snprintf(code, sizeof(code), c < 0x20 || c == '"' || c == '\\' ? "\\u%04x" : "%c", c);
    quoted += code;
  }
  return quoted + '"';
}

std::string QuoteAll(const std::vector<std::string>& texts) {
  std::string list;
  for (const std::string& text : texts) list += (list.empty() ? "" : ",") + Quote(text);
  return "[" + list + "]";
}

std::string Bool(bool value) { return value ? "true" : "false"; }

std::string Options(const Parameters& given) {
  return "{\"model_repository\":" + QuoteAll(given.repositories) +
         ",\"load_models\":" + QuoteAll(given.load_models) +
         ",\"load_all\":" + Bool(given.control_mode != "explicit") +
         ",\"backend_directory\":" + Quote(given.backend_directory) +
         ",\"auto_complete\":" + Bool(given.auto_complete) +
         ",\"strict_readiness\":" + Bool(given.strict_readiness) +
         ",\"exit_on_error\":" + Bool(given.exit_on_error) + "}";
}

#if defined(TRITON_ENABLE_HTTP) || defined(TRITON_ENABLE_METRICS)
bool Start(const char* what, const Endpoint& where, evhtp_handler handler,
           TRITONSERVER_Server* server, evhtp_t** endpoint) {
  if (!where.enabled) return true;
  const std::string address = where.address + ":" + std::to_string(where.port);
  *endpoint = evhtp_start(where.address.c_str(), where.port, handler, server);
  if (*endpoint == nullptr) {
    const std::string why = errno == EADDRINUSE ? "Socket '" + address + "' already in use"
                                                : address + ": " + strerror(errno);
    LOG('E', std::string("failed to start ") + what + " service: Unavailable - " + why);
    return false;
  }
  LOG('I', std::string("Started ") + what + " service at " + address);
  return true;
}
#endif

}  // namespace

int main(int argc, char** argv) {
  const Parameters given = ParseCommandLine(argc, argv);
  // Blocked before any thread is there: they all leave the signals to sigwait() below.
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGINT);
  sigaddset(&signals, SIGTERM);
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  signal(SIGPIPE, SIG_IGN);

  TRITONSERVER_Server* server = nullptr;
  TRITONSERVER_Error* error = TRITONSERVER_ServerNew(&server, Options(given).c_str());
  if (error != nullptr) {
    LOG('E', std::string("failed to create the server: ") + TRITONSERVER_ErrorMessage(error));
    TRITONSERVER_ErrorDelete(error);
    return 1;
  }
  bool started = true;
#if defined(TRITON_ENABLE_HTTP) || defined(TRITON_ENABLE_METRICS)
  evhtp_t* endpoints[2] = {nullptr, nullptr};
  started = Start("HTTP", given.http, HandleInference, server, &endpoints[0]) &&
            Start("Metrics", given.metrics, HandleMetrics, server, &endpoints[1]);
#endif
#ifdef TRITON_ENABLE_GRPC
  LOG('W', std::string("the stand-in does not serve GRPC"));
#endif
  int number = 0;
  if (started) {
    sigwait(&signals, &number);
    LOG('I', "Signal (" + std::to_string(number) + ") received. Waiting for in-flight requests.");
  }
#if defined(TRITON_ENABLE_HTTP) || defined(TRITON_ENABLE_METRICS)
  for (evhtp_t* endpoint : endpoints)
    if (endpoint != nullptr) evhtp_stop(endpoint);
#endif
  TRITONSERVER_ServerDelete(server);
  return started ? 0 : 1;
}

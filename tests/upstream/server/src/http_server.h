// SPDX-License-Identifier: Apache-2.0
#pragma once

#if defined(TRITON_ENABLE_HTTP) || defined(TRITON_ENABLE_METRICS)
#include <evhtp/evhtp.h>

// Handlers for evhtp_start(); `server` is a TRITONSERVER_Server.
void HandleInference(const evhtp_request* request, evhtp_response* response, void* server);
void HandleMetrics(const evhtp_request* request, evhtp_response* response, void* server);
#endif

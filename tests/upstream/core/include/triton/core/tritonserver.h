/* SPDX-License-Identifier: Apache-2.0 */
/* The stand-in's own, small C interface of libtritonserver.so. Some names are those of the real
 * one; nothing that was compiled for the one works with the other. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define TRITONSERVER_DECLSPEC __attribute__((__visibility__("default")))

typedef struct TRITONSERVER_Error TRITONSERVER_Error; /* NULL is success */
typedef struct TRITONSERVER_Server TRITONSERVER_Server;
typedef struct TRITONSERVER_Response TRITONSERVER_Response;

typedef enum {
  TRITONSERVER_ERROR_UNKNOWN,
  TRITONSERVER_ERROR_INTERNAL,
  TRITONSERVER_ERROR_NOT_FOUND,
  TRITONSERVER_ERROR_INVALID_ARG,
  TRITONSERVER_ERROR_UNAVAILABLE,
  TRITONSERVER_ERROR_UNSUPPORTED
} TRITONSERVER_Error_Code;

/* A tensor; the strings and numbers belong to whoever hands it over. */
typedef struct {
  const char* name;
  const char* datatype; /* FP32, INT64, BYTES, ... */
  const int64_t* shape;
  uint32_t dims;
  const void* data; /* BYTES: each element has its length in front, 4 bytes, little-endian */
  size_t size;
} TRITONSERVER_Tensor;

TRITONSERVER_DECLSPEC TRITONSERVER_Error* TRITONSERVER_ErrorNew(
    TRITONSERVER_Error_Code code, const char* message);
TRITONSERVER_DECLSPEC void TRITONSERVER_ErrorDelete(TRITONSERVER_Error* error);
TRITONSERVER_DECLSPEC const char* TRITONSERVER_ErrorCodeString(TRITONSERVER_Error* error);
TRITONSERVER_DECLSPEC const char* TRITONSERVER_ErrorMessage(TRITONSERVER_Error* error);
TRITONSERVER_DECLSPEC void TRITONSERVER_LogMessage(
    char level, const char* file, int line, const char* message);

/* `options` is JSON: model_repository and load_models (lists), backend_directory, load_all,
 * auto_complete, strict_readiness. Models that cannot be loaded are an error only with
 * exit_on_error. */
TRITONSERVER_DECLSPEC TRITONSERVER_Error* TRITONSERVER_ServerNew(
    TRITONSERVER_Server** server, const char* options);
/* Finishes what was asked, unloads all models. */
TRITONSERVER_DECLSPEC void TRITONSERVER_ServerDelete(TRITONSERVER_Server* server);
TRITONSERVER_DECLSPEC int TRITONSERVER_ServerIsReady(TRITONSERVER_Server* server);
TRITONSERVER_DECLSPEC int TRITONSERVER_ServerModelIsReady(
    TRITONSERVER_Server* server, const char* model, const char* version);

/* What is one of: server, index, metrics (not JSON); with a model: model, config, statistics.
 * The text is from malloc(). */
TRITONSERVER_DECLSPEC TRITONSERVER_Error* TRITONSERVER_ServerDescribe(
    TRITONSERVER_Server* server, const char* what, const char* model, const char* version,
    char** text);
TRITONSERVER_DECLSPEC TRITONSERVER_Error* TRITONSERVER_ServerLoadModel(
    TRITONSERVER_Server* server, const char* model);
TRITONSERVER_DECLSPEC TRITONSERVER_Error* TRITONSERVER_ServerUnloadModel(
    TRITONSERVER_Server* server, const char* model);

/* Waits for the answer. `wanted` are names of outputs; none of them means all. */
TRITONSERVER_DECLSPEC TRITONSERVER_Error* TRITONSERVER_ServerInfer(
    TRITONSERVER_Server* server, const char* model, const char* version,
    const TRITONSERVER_Tensor* inputs, uint32_t input_count, const char* const* wanted,
    uint32_t wanted_count, TRITONSERVER_Response** response);
TRITONSERVER_DECLSPEC uint32_t TRITONSERVER_ResponseOutputCount(TRITONSERVER_Response* response);
TRITONSERVER_DECLSPEC void TRITONSERVER_ResponseOutput(
    TRITONSERVER_Response* response, uint32_t index, TRITONSERVER_Tensor* output);
TRITONSERVER_DECLSPEC const char* TRITONSERVER_ResponseModelVersion(
    TRITONSERVER_Response* response);
TRITONSERVER_DECLSPEC void TRITONSERVER_ResponseDelete(TRITONSERVER_Response* response);

#ifdef __cplusplus
}
#endif

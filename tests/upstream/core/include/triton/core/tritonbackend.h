/* SPDX-License-Identifier: Apache-2.0 */
/* What a backend, libtriton_NAME.so in its folder, and the server call of each other. */
#pragma once

#include "triton/core/tritonserver.h"

#ifdef __cplusplus
extern "C" {
#endif

/* A server takes a backend of its own major and of its own or a smaller minor version. */
#define TRITONBACKEND_API_VERSION_MAJOR 1
#define TRITONBACKEND_API_VERSION_MINOR @API_MINOR@

typedef struct TRITONBACKEND_Model TRITONBACKEND_Model;
typedef struct TRITONBACKEND_ModelInstance TRITONBACKEND_ModelInstance;
typedef struct TRITONBACKEND_Request TRITONBACKEND_Request;

/* Offered by the server. */
TRITONSERVER_DECLSPEC void TRITONBACKEND_ApiVersion(uint32_t* major, uint32_t* minor);
TRITONSERVER_DECLSPEC const char* TRITONBACKEND_ModelName(TRITONBACKEND_Model* model);
/* The model's folder, without the version. */
TRITONSERVER_DECLSPEC const char* TRITONBACKEND_ModelRepository(TRITONBACKEND_Model* model);
TRITONSERVER_DECLSPEC int64_t TRITONBACKEND_ModelVersion(TRITONBACKEND_Model* model);
/* The backend's own folder. */
TRITONSERVER_DECLSPEC const char* TRITONBACKEND_BackendDirectory(TRITONBACKEND_Model* model);
TRITONSERVER_DECLSPEC const char* TRITONBACKEND_ModelConfig(TRITONBACKEND_Model* model);
/* What a backend completes, in ModelInitialize and where ModelAutoComplete says 1. */
TRITONSERVER_DECLSPEC int TRITONBACKEND_ModelAutoComplete(TRITONBACKEND_Model* model);
TRITONSERVER_DECLSPEC TRITONSERVER_Error* TRITONBACKEND_ModelSetConfig(
    TRITONBACKEND_Model* model, const char* config);
TRITONSERVER_DECLSPEC void TRITONBACKEND_ModelSetState(TRITONBACKEND_Model* model, void* state);
TRITONSERVER_DECLSPEC void* TRITONBACKEND_ModelState(TRITONBACKEND_Model* model);

TRITONSERVER_DECLSPEC const char* TRITONBACKEND_ModelInstanceName(TRITONBACKEND_ModelInstance* i);
TRITONSERVER_DECLSPEC const char* TRITONBACKEND_ModelInstanceKind(TRITONBACKEND_ModelInstance* i);
TRITONSERVER_DECLSPEC int TRITONBACKEND_ModelInstanceDeviceId(TRITONBACKEND_ModelInstance* i);
TRITONSERVER_DECLSPEC TRITONBACKEND_Model* TRITONBACKEND_ModelInstanceModel(
    TRITONBACKEND_ModelInstance* i);
TRITONSERVER_DECLSPEC void TRITONBACKEND_ModelInstanceSetState(
    TRITONBACKEND_ModelInstance* i, void* state);
TRITONSERVER_DECLSPEC void* TRITONBACKEND_ModelInstanceState(TRITONBACKEND_ModelInstance* i);

TRITONSERVER_DECLSPEC uint32_t TRITONBACKEND_RequestInputCount(TRITONBACKEND_Request* request);
TRITONSERVER_DECLSPEC void TRITONBACKEND_RequestInput(
    TRITONBACKEND_Request* request, uint32_t index, TRITONSERVER_Tensor* input);
/* Copies the output into the answer. */
TRITONSERVER_DECLSPEC void TRITONBACKEND_ResponseAddOutput(
    TRITONBACKEND_Request* request, const TRITONSERVER_Tensor* output);
/* The answer is this error, which the server deletes. */
TRITONSERVER_DECLSPEC void TRITONBACKEND_ResponseSetError(
    TRITONBACKEND_Request* request, TRITONSERVER_Error* error);

/* Offered by each backend; no exception may leave them. */
TRITONSERVER_DECLSPEC void TRITONBACKEND_BackendApiVersion(uint32_t* major, uint32_t* minor);
TRITONSERVER_DECLSPEC TRITONSERVER_Error* TRITONBACKEND_ModelInitialize(TRITONBACKEND_Model* m);
TRITONSERVER_DECLSPEC void TRITONBACKEND_ModelFinalize(TRITONBACKEND_Model* m);
TRITONSERVER_DECLSPEC TRITONSERVER_Error* TRITONBACKEND_ModelInstanceInitialize(
    TRITONBACKEND_ModelInstance* i);
TRITONSERVER_DECLSPEC void TRITONBACKEND_ModelInstanceFinalize(TRITONBACKEND_ModelInstance* i);
/* Answers every request; called by one thread an instance. */
TRITONSERVER_DECLSPEC void TRITONBACKEND_ModelInstanceExecute(
    TRITONBACKEND_ModelInstance* i, TRITONBACKEND_Request** requests, uint32_t count);

#ifdef __cplusplus
}
#endif

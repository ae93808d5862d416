/* SPDX-License-Identifier: Apache-2.0 */
/* The stand-in's own, small interface of libonnxruntime.so: float tensors on the CPU only. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define ORT_API_VERSION 16

typedef struct OrtSession OrtSession;

/* A dimension that may have any size is -1. */
typedef struct {
  const char* name;
  const int64_t* dims;
  size_t dim_count;
  const float* data;
  size_t size; /* in elements */
} OrtTensor;

/* Functions that can fail return NULL or a message, which ReleaseStatus takes back. */
typedef struct {
  char* (*CreateSession)(const char* path, OrtSession** session);
  void (*ReleaseSession)(OrtSession* session);
  size_t (*InputCount)(const OrtSession* session);
  size_t (*OutputCount)(const OrtSession* session);
  void (*Input)(const OrtSession* session, size_t index, OrtTensor* input);
  void (*Output)(const OrtSession* session, size_t index, OrtTensor* output);
  /* Outputs are in the session's order and stay until the next call. */
  char* (*Run)(OrtSession* session, const OrtTensor* inputs, size_t count, OrtTensor* outputs);
  void (*ReleaseStatus)(char* status);
} OrtApi;

typedef struct {
  const OrtApi* (*GetApi)(uint32_t version); /* NULL where the version is newer */
  const char* (*GetVersionString)(void);
} OrtApiBase;

const OrtApiBase* OrtGetApiBase(void);

#ifdef __cplusplus
}
#endif

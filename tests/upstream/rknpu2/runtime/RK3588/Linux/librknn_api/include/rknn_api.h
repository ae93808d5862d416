/* SPDX-License-Identifier: Apache-2.0 */
/* As much of Rockchip's C interface as the stand-in backend calls; the structures are laid out as
 * tests/backends/standin_rknnrt.c has them. */
#ifndef _RKNN_API_H
#define _RKNN_API_H
#include <stdint.h>
#ifdef __cplusplus
extern "C" {
#endif

#define RKNN_SUCC 0

typedef uint64_t rknn_context;

enum { RKNN_QUERY_IN_OUT_NUM = 0, RKNN_QUERY_INPUT_ATTR = 1, RKNN_QUERY_OUTPUT_ATTR = 2,
       RKNN_QUERY_SDK_VERSION = 5 };
enum { RKNN_TENSOR_FLOAT32 = 0, RKNN_TENSOR_UINT8 = 3 };
enum { RKNN_TENSOR_NHWC = 1 };

typedef struct {
  uint32_t n_input, n_output;
} rknn_input_output_num;

typedef struct {
  uint32_t index, n_dims, dims[16];
  char name[256];
  uint32_t n_elems, size;
  int32_t fmt, type, qnt_type;
  int8_t fl;
  int32_t zp;
  float scale;
  uint32_t w_stride, size_with_stride;
  uint8_t pass_through;
  uint32_t h_stride;
} rknn_tensor_attr;

typedef struct {
  char api_version[256], drv_version[256];
} rknn_sdk_version;

typedef struct {
  uint32_t index;
  void* buf;
  uint32_t size;
  uint8_t pass_through;
  int32_t type, fmt;
} rknn_input;

typedef struct {
  uint8_t want_float, is_prealloc;
  uint32_t index;
  void* buf;
  uint32_t size;
} rknn_output;

int rknn_init(rknn_context* context, void* model, uint32_t size, uint32_t flag, void* extend);
int rknn_destroy(rknn_context context);
int rknn_query(rknn_context context, int command, void* info, uint32_t size);
int rknn_set_core_mask(rknn_context context, int mask);
int rknn_inputs_set(rknn_context context, uint32_t count, rknn_input inputs[]);
int rknn_run(rknn_context context, void* extend);
int rknn_outputs_get(rknn_context context, uint32_t count, rknn_output outputs[], void* extend);
int rknn_outputs_release(rknn_context context, uint32_t count, rknn_output outputs[]);

#ifdef __cplusplus
}
#endif
#endif

// SPDX-License-Identifier: Apache-2.0
//
// A STAND-IN for Rockchip's librknnrt.so, for tests without an NPU.  It computes nothing
// an NPU would; it only lets RKNNLite go through its real calls.
//
// "Model": any file which starts with "STANDIN".  One uint8 input of dims [1, 2, 2, 3]
// (NHWC), one float output of dims [1, 13]: the 12 input bytes doubled, then the core mask.
// Declarations follow the published rknn_api.h of rknpu2.

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

enum { ELEMENTS = 12, OUTPUTS = 13 };
enum { ERR_FAIL = -1, ERR_MODEL_INVALID = -6 };
enum { Q_IN_OUT_NUM = 0, Q_INPUT_ATTR = 1, Q_OUTPUT_ATTR = 2, Q_SDK_VERSION = 5 };
enum { FLOAT32 = 0, UINT8 = 3 };
enum { NCHW = 0, NHWC = 1, UNDEFINED = 3 };

typedef uint64_t rknn_context;

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
} tensor_attr;

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

static uint8_t input_data[ELEMENTS];
static int core_mask_set;

int rknn_init(rknn_context* context, void* model, uint32_t size, uint32_t flag, void* extend) {
  (void)flag, (void)extend;
  if (size < 7 || memcmp(model, "STANDIN", 7) != 0) return ERR_MODEL_INVALID;
  *context = 1;
  return 0;
}

static void describe(tensor_attr* attr, int is_input) {
  static const uint32_t in_dims[4] = {1, 2, 2, 3}, out_dims[2] = {1, OUTPUTS};
  attr->n_dims = is_input ? 4 : 2;
  memcpy(attr->dims, is_input ? in_dims : out_dims, attr->n_dims * sizeof(uint32_t));
  strcpy(attr->name, is_input ? "images" : "output");
  attr->n_elems = is_input ? ELEMENTS : OUTPUTS;
  attr->size = attr->n_elems * (is_input ? 1 : 4);
  attr->fmt = is_input ? NHWC : UNDEFINED;
  attr->type = is_input ? UINT8 : FLOAT32;
  attr->scale = 1;
}

int rknn_query(rknn_context context, int command, void* info, uint32_t size) {
  (void)context;
  if (command == Q_IN_OUT_NUM) {
    ((uint32_t*)info)[0] = ((uint32_t*)info)[1] = 1;
  } else if (command == Q_INPUT_ATTR || command == Q_OUTPUT_ATTR) {
    describe(info, command == Q_INPUT_ATTR);
  } else if (command == Q_SDK_VERSION) {
    memset(info, 0, size);
    strcpy(info, "2.5.0 (stand-in)");
    strcpy((char*)info + 256, "0.9.8");
  } else {
    return ERR_FAIL;
  }
  return 0;
}

int rknn_set_core_mask(rknn_context context, int mask) {
  (void)context;
  core_mask_set = mask;
  return 0;
}

int rknn_inputs_set(rknn_context context, uint32_t count, rknn_input inputs[]) {
  (void)context;
  if (count != 1 || inputs[0].size != ELEMENTS) return ERR_FAIL;
  memcpy(input_data, inputs[0].buf, ELEMENTS);
  return 0;
}

int rknn_run(rknn_context context, void* extend) {
  (void)context, (void)extend;
  return 0;
}

int rknn_outputs_get(rknn_context context, uint32_t count, rknn_output outputs[], void* extend) {
  (void)context, (void)extend;
  if (count != 1 || !outputs[0].want_float) return ERR_FAIL;
  if (!outputs[0].is_prealloc) {
    outputs[0].buf = malloc(OUTPUTS * sizeof(float));
    outputs[0].size = OUTPUTS * sizeof(float);
  }
  float* values = outputs[0].buf;
  for (int i = 0; i < ELEMENTS; i++) values[i] = 2.0f * input_data[i];
  values[ELEMENTS] = (float)core_mask_set;
  return 0;
}

int rknn_outputs_release(rknn_context context, uint32_t count, rknn_output outputs[]) {
  (void)context;
  for (uint32_t i = 0; i < count; i++)
    if (!outputs[i].is_prealloc) free(outputs[i].buf);
  return 0;
}

// RKNNLite looks this up even for a model without dynamic shapes.
int rknn_set_input_shapes(rknn_context context, uint32_t count, tensor_attr attrs[]) {
  (void)context, (void)count, (void)attrs;
  return ERR_FAIL;
}

int rknn_destroy(rknn_context context) {
  (void)context;
  return 0;
}

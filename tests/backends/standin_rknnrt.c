// SPDX-License-Identifier: Apache-2.0
//
// A STAND-IN for Rockchip's librknnrt.so, for tests without an NPU.  It computes nothing
// an NPU would; it only lets RKNNLite go through its real calls.
//
// "Model": any file which starts with "STANDIN", or has it after the 64 bytes of an RKNN file's
// header.  One that holds objects as rknn_yolov5_demo prints them is a yolov5 model that finds them
// in every picture.  All others have one uint8 input of dims [1, 2, 2, 3] (NHWC) and one float
// output of dims [1, 13]: the 12 input bytes doubled, then the core mask.
// Declarations follow the published rknn_api.h of rknpu2.

#include <stdint.h>
#include <stdio.h>
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

// The real library has its version in such a text, too.
__attribute__((used)) static const char version_text[] = "librknnrt version: 2.5.0 (stand-in)";

static uint8_t input_data[ELEMENTS];
static int core_mask_set;

// --- a yolov5 model ---------------------------------------------------------------------------

enum { SIZE = 640, CLASSES = 80, BOX = 5, MOST = 16 };
enum { PERSON = 0, BUS = 5 };  // of COCO's classes
static const char* const yolo_names[3] = {"output", "283", "285"};
static const int strides[3] = {8, 16, 32};
static const float anchors[3][3][2] = {
    {{10, 13}, {16, 30}, {33, 23}}, {{30, 61}, {62, 45}, {59, 119}}, {{116, 90}, {156, 198}, {373, 326}}};

typedef struct {
  int count;
  struct {
    int label, left, top, right, bottom;
    float score;
  } objects[MOST];
} yolo;

static uint32_t yolo_elements(int index) {
  const int grid = SIZE / strides[index];
  return 3 * (BOX + CLASSES) * grid * grid;
}

static yolo* read_yolo(const char* text, uint32_t size) {
  yolo found = {0};
  const char* end = text + size;
  for (const char* line = text; line < end && *line != 0 && found.count < MOST;) {
    const char* next = memchr(line, '\n', end - line);
    char word[32];
    if (sscanf(line, "%31s @ (%d %d %d %d) %f", word, &found.objects[found.count].left,
               &found.objects[found.count].top, &found.objects[found.count].right,
               &found.objects[found.count].bottom, &found.objects[found.count].score) == 6)
      found.objects[found.count++].label = strcmp(word, "bus") == 0 ? BUS : PERSON;
    if (next == NULL) break;
    line = next + 1;
  }
  if (found.count == 0) return NULL;
  yolo* made = malloc(sizeof(yolo));
  *made = found;
  return made;
}

// Without libm, which the real library may or may not have loaded.
static float root(float value) {
  float guess = value > 1 ? value : 1;
  for (int i = 0; i < 40; i++) guess = (guess + value / guess) / 2;
  return guess;
}

// Puts an object into the first output that has an anchor large enough.
static void put_object(const yolo* model, int object, int index, float* values) {
  const float width = model->objects[object].right - model->objects[object].left;
  const float height = model->objects[object].bottom - model->objects[object].top;
  for (int output = 0; output < 3; output++) {
    for (int anchor = 0; anchor < 3; anchor++) {
      if (width > 3.9f * anchors[output][anchor][0] || height > 3.9f * anchors[output][anchor][1])
        continue;
      if (output != index) return;
      const int grid = SIZE / strides[output], cells = grid * grid;
      const float x = (model->objects[object].left + width / 2) / strides[output];
      const float y = (model->objects[object].top + height / 2) / strides[output];
      float* at = values + (anchor * (BOX + CLASSES)) * cells + (int)y * grid + (int)x;
      const float sure = root(model->objects[object].score);
      at[0] = (x - (int)x + 0.5f) / 2;
      at[cells] = (y - (int)y + 0.5f) / 2;
      at[2 * cells] = root(width / anchors[output][anchor][0]) / 2;
      at[3 * cells] = root(height / anchors[output][anchor][1]) / 2;
      at[4 * cells] = sure;
      at[(BOX + model->objects[object].label) * cells] = sure;
      return;
    }
  }
}

static void describe_yolo(tensor_attr* attr, int is_input) {
  const int grid = SIZE / strides[attr->index];
  const uint32_t in_dims[4] = {1, SIZE, SIZE, 3}, out_dims[4] = {1, 3 * (BOX + CLASSES), grid, grid};
  attr->n_dims = 4;
  memcpy(attr->dims, is_input ? in_dims : out_dims, sizeof(in_dims));
  strcpy(attr->name, is_input ? "images" : yolo_names[attr->index]);
  attr->n_elems = is_input ? SIZE * SIZE * 3 : yolo_elements(attr->index);
  attr->size = attr->n_elems * (is_input ? 1 : 4);
  attr->fmt = is_input ? NHWC : NCHW;
  attr->type = is_input ? UINT8 : FLOAT32;
  attr->scale = 1;
}

// Which model a context is: a yolo, or NULL behind the small one's.
static yolo* model_of(rknn_context context) { return context > 1 ? (yolo*)(uintptr_t)context : NULL; }

// --- the library ------------------------------------------------------------------------------

int rknn_init(rknn_context* context, void* model, uint32_t size, uint32_t flag, void* extend) {
  (void)flag, (void)extend;
  const char* body = model;
  if (size > 64 && memcmp(body, "RKNN", 4) == 0) body += 64, size -= 64;
  if (size < 7 || memcmp(body, "STANDIN", 7) != 0) return ERR_MODEL_INVALID;
  yolo* found = read_yolo(body, size);
  *context = found != NULL ? (rknn_context)(uintptr_t)found : 1;
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
  if (command == Q_IN_OUT_NUM) {
    ((uint32_t*)info)[0] = 1;
    ((uint32_t*)info)[1] = model_of(context) != NULL ? 3 : 1;
  } else if (command == Q_INPUT_ATTR || command == Q_OUTPUT_ATTR) {
    (model_of(context) != NULL ? describe_yolo : describe)(info, command == Q_INPUT_ATTR);
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
  if (count != 1) return ERR_FAIL;
  if (model_of(context) != NULL) return inputs[0].size == SIZE * SIZE * 3 ? 0 : ERR_FAIL;
  if (inputs[0].size != ELEMENTS) return ERR_FAIL;
  memcpy(input_data, inputs[0].buf, ELEMENTS);
  return 0;
}

int rknn_run(rknn_context context, void* extend) {
  (void)context, (void)extend;
  return 0;
}

static int get_yolo(const yolo* model, uint32_t count, rknn_output outputs[]) {
  if (count != 3) return ERR_FAIL;
  for (uint32_t i = 0; i < count; i++) {
    const uint32_t size = yolo_elements(i) * sizeof(float);
    if (!outputs[i].is_prealloc) outputs[i].buf = malloc(size), outputs[i].size = size;
    memset(outputs[i].buf, 0, size);
    for (int object = 0; object < model->count; object++)
      put_object(model, object, i, outputs[i].buf);
  }
  return 0;
}

int rknn_outputs_get(rknn_context context, uint32_t count, rknn_output outputs[], void* extend) {
  (void)extend;
  if (model_of(context) != NULL) return get_yolo(model_of(context), count, outputs);
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
  free(model_of(context));
  return 0;
}

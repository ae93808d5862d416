// SPDX-License-Identifier: Apache-2.0
// Models with one UINT8 input in NHWC and FP32 outputs: `gpus` name the NPU's core.
#include <rknn_api.h>

#include <cstdio>
#include <cstring>
#include <string>

#include "triton/backend/backend_common.h"

using namespace triton::backend;

namespace {

struct Instance {
  rknn_context context = 0;
  std::vector<rknn_tensor_attr> outputs;
};

std::string ReadFile(const std::string& path) {
  std::string data;
  if (FILE* file = fopen(path.c_str(), "rb")) {
    char buffer[4096];
    for (size_t got; (got = fread(buffer, 1, sizeof(buffer), file)) > 0;) data.append(buffer, got);
    fclose(file);
  }
  return data;
}

std::string Open(TRITONBACKEND_ModelInstance* instance, Instance* state) {
  std::string model = ReadFile(VersionFile(TRITONBACKEND_ModelInstanceModel(instance), "model.rknn"));
  const int ret = rknn_init(&state->context, &model[0], uint32_t(model.size()), 0, nullptr);
  if (ret != RKNN_SUCC) return "rknpu engine init fail!, ret = " + std::to_string(ret);
  const int core = TRITONBACKEND_ModelInstanceDeviceId(instance);
  if (core < -1 || core > 2)
    return "rknpu engine get invalid core mask = " + std::to_string(core);
  const int bound = rknn_set_core_mask(state->context, core < 0 ? 0 : 1 << core);
  if (bound != RKNN_SUCC) return "rknpu engine set core mask fail!, ret = " + std::to_string(bound);
  rknn_sdk_version version;
  memset(&version, 0, sizeof(version));
  rknn_input_output_num counts = {0, 0};
  if (rknn_query(state->context, RKNN_QUERY_SDK_VERSION, &version, sizeof(version)) != RKNN_SUCC ||
      rknn_query(state->context, RKNN_QUERY_IN_OUT_NUM, &counts, sizeof(counts)) != RKNN_SUCC)
    return "rknn_query error";
  state->outputs.resize(counts.n_output);
  for (uint32_t i = 0; i < counts.n_output; ++i) {
    memset(&state->outputs[i], 0, sizeof(rknn_tensor_attr));
    state->outputs[i].index = i;
    if (rknn_query(state->context, RKNN_QUERY_OUTPUT_ATTR, &state->outputs[i],
                   sizeof(rknn_tensor_attr)) != RKNN_SUCC)
      return "rknn_query error";
  }
  Log('I', std::string("sdk version: ") + version.api_version +
               " driver version: " + version.drv_version);
  return "";
}

std::string Run(Instance* state, TRITONBACKEND_Request* request) {
  const TRITONSERVER_Tensor given = Inputs(request)[0];
  rknn_input input = {0, const_cast<void*>(given.data), uint32_t(given.size), 0, RKNN_TENSOR_UINT8,
                      RKNN_TENSOR_NHWC};
  std::vector<rknn_output> outputs(state->outputs.size(), rknn_output{1, 0, 0, nullptr, 0});
  if (rknn_inputs_set(state->context, 1, &input) != RKNN_SUCC) return "rknn_inputs_set error";
  if (rknn_run(state->context, nullptr) != RKNN_SUCC) return "rknn_run error";
  if (rknn_outputs_get(state->context, uint32_t(outputs.size()), outputs.data(), nullptr) != RKNN_SUCC)
    return "rknn_outputs_get error";
  for (size_t i = 0; i < outputs.size(); ++i) {
    const rknn_tensor_attr& told = state->outputs[i];
    const std::vector<int64_t> shape(told.dims, told.dims + told.n_dims);
    const TRITONSERVER_Tensor answer = {told.name, "FP32", shape.data(), uint32_t(shape.size()),
                                        outputs[i].buf, outputs[i].size};
    TRITONBACKEND_ResponseAddOutput(request, &answer);
  }
  rknn_outputs_release(state->context, uint32_t(outputs.size()), outputs.data());
  return "";
}

}  // namespace

extern "C" {

void TRITONBACKEND_BackendApiVersion(uint32_t* major, uint32_t* minor) {
  *major = TRITONBACKEND_API_VERSION_MAJOR;
  *minor = TRITONBACKEND_API_VERSION_MINOR;
}

TRITONSERVER_Error* TRITONBACKEND_ModelInitialize(TRITONBACKEND_Model*) { return nullptr; }
void TRITONBACKEND_ModelFinalize(TRITONBACKEND_Model*) {}

TRITONSERVER_Error* TRITONBACKEND_ModelInstanceInitialize(TRITONBACKEND_ModelInstance* instance) {
  if (TRITONSERVER_Error* error = CheckKind(instance)) return error;
  Instance* state = new Instance;
  const std::string problem = Open(instance, state);
  if (problem.empty()) {
    TRITONBACKEND_ModelInstanceSetState(instance, state);
    return nullptr;
  }
  if (state->context != 0) rknn_destroy(state->context);
  delete state;
  return Failed(problem);
}

void TRITONBACKEND_ModelInstanceFinalize(TRITONBACKEND_ModelInstance* instance) {
  Instance* state = static_cast<Instance*>(TRITONBACKEND_ModelInstanceState(instance));
  rknn_destroy(state->context);
  delete state;
}

void TRITONBACKEND_ModelInstanceExecute(
    TRITONBACKEND_ModelInstance* instance, TRITONBACKEND_Request** requests, uint32_t count) {
  Instance* state = static_cast<Instance*>(TRITONBACKEND_ModelInstanceState(instance));
  for (uint32_t i = 0; i < count; ++i) {
    const std::string problem = Run(state, requests[i]);
    if (!problem.empty()) FailAll(&requests[i], 1, problem);
  }
}

}  // extern "C"

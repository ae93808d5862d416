// SPDX-License-Identifier: Apache-2.0
// Models with one UINT8 input in NHWC and one FP32 output: `gpus` name the NPU's core.
#include <rknn_api.h>

#include <cstdio>
#include <cstring>
#include <string>

#include "triton/backend/backend_common.h"

using namespace triton::backend;

namespace {

struct Instance {
  rknn_context context = 0;
  rknn_tensor_attr output;
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
  if (ret != RKNN_SUCC) return "rknn_init error ret=" + std::to_string(ret);
  const int core = TRITONBACKEND_ModelInstanceDeviceId(instance);
  if (core < -1 || core > 2) return "invalid core mask";
  if (rknn_set_core_mask(state->context, core < 0 ? 0 : 1 << core) != RKNN_SUCC)
    return "rknn_set_core_mask error";
  rknn_sdk_version version;
  memset(&version, 0, sizeof(version));
  memset(&state->output, 0, sizeof(state->output));
  if (rknn_query(state->context, RKNN_QUERY_SDK_VERSION, &version, sizeof(version)) != RKNN_SUCC ||
      rknn_query(state->context, RKNN_QUERY_OUTPUT_ATTR, &state->output, sizeof(state->output)) !=
          RKNN_SUCC)
    return "rknn_query error";
  Log('I', std::string("sdk version: ") + version.api_version +
               " driver version: " + version.drv_version);
  return "";
}

std::string Run(Instance* state, TRITONBACKEND_Request* request) {
  const TRITONSERVER_Tensor given = Inputs(request)[0];
  rknn_input input = {0, const_cast<void*>(given.data), uint32_t(given.size), 0, RKNN_TENSOR_UINT8,
                      RKNN_TENSOR_NHWC};
  rknn_output output = {1, 0, 0, nullptr, 0};
  if (rknn_inputs_set(state->context, 1, &input) != RKNN_SUCC) return "rknn_inputs_set error";
  if (rknn_run(state->context, nullptr) != RKNN_SUCC) return "rknn_run error";
  if (rknn_outputs_get(state->context, 1, &output, nullptr) != RKNN_SUCC)
    return "rknn_outputs_get error";
  const std::vector<int64_t> shape(state->output.dims, state->output.dims + state->output.n_dims);
  const TRITONSERVER_Tensor answer = {state->output.name, "FP32", shape.data(),
                                      uint32_t(shape.size()), output.buf, output.size};
  TRITONBACKEND_ResponseAddOutput(request, &answer);
  rknn_outputs_release(state->context, 1, &output);
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

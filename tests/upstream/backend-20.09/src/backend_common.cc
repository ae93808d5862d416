// SPDX-License-Identifier: Apache-2.0
#include "triton/backend/backend_common.h"

#include <dirent.h>
#include <sys/stat.h>

#ifdef TRITON_ENABLE_GPU
#include <cuda_runtime_api.h>  // brings memcpy along
#endif

namespace triton { namespace backend {

TRITONSERVER_Error* Failed(const std::string& message) {
  return TRITONSERVER_ErrorNew(TRITONSERVER_ERROR_INTERNAL, message.c_str());
}

void FailAll(TRITONBACKEND_Request** requests, uint32_t count, const std::string& message) {
  for (uint32_t i = 0; i < count; ++i)
    TRITONBACKEND_ResponseSetError(requests[i], Failed(message));
}

std::vector<TRITONSERVER_Tensor> Inputs(TRITONBACKEND_Request* request) {
  std::vector<TRITONSERVER_Tensor> inputs(TRITONBACKEND_RequestInputCount(request));
  for (uint32_t i = 0; i < inputs.size(); ++i) TRITONBACKEND_RequestInput(request, i, &inputs[i]);
  return inputs;
}

// Nothing here says where memcpy comes from.
void CopyBuffer(const void* from, size_t size, void* to) { memcpy(to, from, size); }

void Log(char level, const std::string& message) {
  TRITONSERVER_LogMessage(level, __FILE__, __LINE__, message.c_str());
}

std::string VersionFile(TRITONBACKEND_Model* model, const char* name) {
  return std::string(TRITONBACKEND_ModelRepository(model)) + "/" +
         std::to_string(TRITONBACKEND_ModelVersion(model)) + "/" + name;
}

}}  // namespace triton::backend

// SPDX-License-Identifier: Apache-2.0
// Models with one UINT8 input and one FP32 output, on the CPU.
#include <cstring>

#include "TNNProcessor.h"
#include "triton/backend/backend_common.h"

using namespace triton::backend;

extern "C" {

void TRITONBACKEND_BackendApiVersion(uint32_t* major, uint32_t* minor) {
  *major = TRITONBACKEND_API_VERSION_MAJOR;
  *minor = TRITONBACKEND_API_VERSION_MINOR;
}

TRITONSERVER_Error* TRITONBACKEND_ModelInitialize(TRITONBACKEND_Model*) { return nullptr; }
void TRITONBACKEND_ModelFinalize(TRITONBACKEND_Model*) {}

TRITONSERVER_Error* TRITONBACKEND_ModelInstanceInitialize(TRITONBACKEND_ModelInstance* instance) {
  if (TRITONSERVER_Error* error = CheckKind(instance)) return error;
  std::string folder = VersionFile(TRITONBACKEND_ModelInstanceModel(instance), "");
  if (!folder.empty()) folder.pop_back();
  TNNProcessor* processor = new TNNProcessor(folder);
  const TNN_NS::Status status = processor->Init();
  if (status == TNN_NS::TNN_OK) {
    TRITONBACKEND_ModelInstanceSetState(instance, processor);
    return nullptr;
  }
  delete processor;
  return Failed("Can not create TNNProcessor using path '" + folder + "': status " +
                std::to_string(int(status)));
}

void TRITONBACKEND_ModelInstanceFinalize(TRITONBACKEND_ModelInstance* instance) {
  delete static_cast<TNNProcessor*>(TRITONBACKEND_ModelInstanceState(instance));
}

void TRITONBACKEND_ModelInstanceExecute(
    TRITONBACKEND_ModelInstance* instance, TRITONBACKEND_Request** requests, uint32_t count) {
  TNNProcessor* processor = static_cast<TNNProcessor*>(TRITONBACKEND_ModelInstanceState(instance));
  for (uint32_t i = 0; i < count; ++i) {
    const TRITONSERVER_Tensor given = Inputs(requests[i])[0];
    const std::vector<float>& found = processor->Run(given.data, given.size);
    const int64_t shape[] = {int64_t(found.size())};
    const TRITONSERVER_Tensor answer = {"prob", "FP32", shape, 1, found.data(),
                                        found.size() * sizeof(float)};
    TRITONBACKEND_ResponseAddOutput(requests[i], &answer);
  }
}

}  // extern "C"

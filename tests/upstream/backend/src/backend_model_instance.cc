// SPDX-License-Identifier: Apache-2.0
#include <cstring>

#include "triton/backend/backend_common.h"

namespace triton { namespace backend {

TRITONSERVER_Error* CheckKind(TRITONBACKEND_ModelInstance* instance) {
#if !defined(TRITON_ENABLE_GPU) && !defined(TRITON_ENABLE_MALI_GPU)
  if (strcmp(TRITONBACKEND_ModelInstanceKind(instance), "GPU") == 0)
    return TRITONSERVER_ErrorNew(TRITONSERVER_ERROR_INVALID_ARG, "GPU instances not supported");
#endif
  return nullptr;
}

}}  // namespace triton::backend

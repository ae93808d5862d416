// SPDX-License-Identifier: Apache-2.0
// What every backend needs around the C interface.
#pragma once

#include <string>
#include <vector>

#include "triton/core/tritonbackend.h"

namespace triton { namespace backend {

// An error of kind INTERNAL.
TRITONSERVER_Error* Failed(const std::string& message);

// Answers all requests with an error.
void FailAll(TRITONBACKEND_Request** requests, uint32_t count, const std::string& message);

// All inputs of a request, in their order.
std::vector<TRITONSERVER_Tensor> Inputs(TRITONBACKEND_Request* request);

void Log(char level, const std::string& message);

// FOLDER/VERSION/name of a model's file.
std::string VersionFile(TRITONBACKEND_Model* model, const char* name);

// Whether this backend was built to run on an instance's kind of device.
TRITONSERVER_Error* CheckKind(TRITONBACKEND_ModelInstance* instance);

}}  // namespace triton::backend

// SPDX-License-Identifier: Apache-2.0
#include <cpu_provider_factory.h>
#include <onnxruntime_c_api.h>
#include <onnxruntime_session_options_config_keys.h>

#include <cstdlib>
#include <string>
#include <vector>

#include "triton/backend/backend_common.h"
#include "triton/common/triton_json.h"

namespace {

namespace json = triton::common::json;
using triton::backend::Failed;

// Batching of a completed config: Triton's default for ONNX models.
constexpr int kDefaultMaxBatchSize = 4;

const OrtApi* Api() {
  static const OrtApi* const api = OrtGetApiBase()->GetApi(ORT_API_VERSION);
  return api;
}

TRITONSERVER_Error* Open(TRITONBACKEND_Model* model, OrtSession** session) {
  if (Api() == nullptr) return Failed("ONNX Runtime is older than this backend");
  const std::string path = triton::backend::VersionFile(model, "model.onnx");
  char* status = Api()->CreateSession(path.c_str(), session);
  if (status == nullptr) return nullptr;
  TRITONSERVER_Error* error = Failed("onnx runtime error: " + path + ": " + status);
  Api()->ReleaseStatus(status);
  return error;
}

// The model's inputs or outputs in the words of config.pbtxt.
json::Value Describe(const std::vector<OrtTensor>& tensors, bool batched, json::Allocator& allocator)
{
  json::Value list(rapidjson::kArrayType);
  for (const OrtTensor& tensor : tensors) {
    json::Value dims(rapidjson::kArrayType), entry(rapidjson::kObjectType);
    for (size_t i = batched ? 1 : 0; i < tensor.dim_count; ++i)
      dims.PushBack(tensor.dims[i], allocator);
    entry.AddMember("name", json::Text(tensor.name, allocator), allocator);
    entry.AddMember("data_type", "TYPE_FP32", allocator);
    entry.AddMember("dims", dims, allocator);
    list.PushBack(entry, allocator);
  }
  return list;
}

TRITONSERVER_Error* AutoComplete(TRITONBACKEND_Model* model, OrtSession* session) {
  std::vector<OrtTensor> inputs(Api()->InputCount(session)), outputs(Api()->OutputCount(session));
  bool batched = true;
  for (size_t i = 0; i < inputs.size(); ++i) Api()->Input(session, i, &inputs[i]);
  for (size_t i = 0; i < outputs.size(); ++i) Api()->Output(session, i, &outputs[i]);
  for (const std::vector<OrtTensor>* list : {&inputs, &outputs})
    for (const OrtTensor& one : *list) batched = batched && one.dim_count > 1 && one.dims[0] == -1;
  const std::string text = TRITONBACKEND_ModelConfig(model);
  json::Document config;
  json::Parse(text.data(), text.size(), &config);
  json::Allocator& allocator = config.GetAllocator();
  const bool was_empty = config["input"].Empty() && config["output"].Empty();
  if (was_empty && config["max_batch_size"].GetInt64() == 0)
    config["max_batch_size"].SetInt(batched ? kDefaultMaxBatchSize : 0);
  batched = config["max_batch_size"].GetInt64() > 0;
  if (config["input"].Empty()) config["input"] = Describe(inputs, batched, allocator);
  if (config["output"].Empty()) config["output"] = Describe(outputs, batched, allocator);
  return TRITONBACKEND_ModelSetConfig(model, json::Write(config).c_str());
}

void Execute(OrtSession* session, TRITONBACKEND_Request* request) {
  std::vector<OrtTensor> inputs;
  for (const TRITONSERVER_Tensor& input : triton::backend::Inputs(request)) {
    if (std::string(input.datatype) != "FP32")
      return TRITONBACKEND_ResponseSetError(request, Failed("only FP32 is known here"));
    inputs.push_back({input.name, input.shape, input.dims, static_cast<const float*>(input.data),
                      input.size / sizeof(float)});
  }
  std::vector<OrtTensor> outputs(Api()->OutputCount(session));
  if (char* status = Api()->Run(session, inputs.data(), inputs.size(), outputs.data())) {
    TRITONBACKEND_ResponseSetError(
        request, Failed(std::string("onnx runtime error: ") + status));
    return Api()->ReleaseStatus(status);
  }
  for (const OrtTensor& output : outputs) {
    const TRITONSERVER_Tensor tensor = {output.name, "FP32", output.dims,
                                        uint32_t(output.dim_count), output.data,
                                        output.size * sizeof(float)};
    TRITONBACKEND_ResponseAddOutput(request, &tensor);
  }
}

}  // namespace

extern "C" {

void TRITONBACKEND_BackendApiVersion(uint32_t* major, uint32_t* minor) {
  *major = TRITONBACKEND_API_VERSION_MAJOR;
  *minor = TRITONBACKEND_API_VERSION_MINOR;
}

TRITONSERVER_Error* TRITONBACKEND_ModelInitialize(TRITONBACKEND_Model* model) {
  triton::backend::Log('I', std::string("ONNX Runtime ") + OrtGetApiBase()->GetVersionString() +
                                ", without " + kOrtSessionOptionsDisablePrepacking);
  OrtSession* session = nullptr;
  if (TRITONSERVER_Error* error = Open(model, &session)) return error;
  TRITONSERVER_Error* error =
      TRITONBACKEND_ModelAutoComplete(model) ? AutoComplete(model, session) : nullptr;
  Api()->ReleaseSession(session);
  return error;
}

void TRITONBACKEND_ModelFinalize(TRITONBACKEND_Model*) {}

TRITONSERVER_Error* TRITONBACKEND_ModelInstanceInitialize(TRITONBACKEND_ModelInstance* instance) {
  if (TRITONSERVER_Error* error = triton::backend::CheckKind(instance)) return error;
  OrtSession* session = nullptr;
  TRITONSERVER_Error* error = Open(TRITONBACKEND_ModelInstanceModel(instance), &session);
  if (error == nullptr) TRITONBACKEND_ModelInstanceSetState(instance, session);
  return error;
}

void TRITONBACKEND_ModelInstanceFinalize(TRITONBACKEND_ModelInstance* instance) {
  Api()->ReleaseSession(static_cast<OrtSession*>(TRITONBACKEND_ModelInstanceState(instance)));
}

void TRITONBACKEND_ModelInstanceExecute(
    TRITONBACKEND_ModelInstance* instance, TRITONBACKEND_Request** requests, uint32_t count) {
  OrtSession* session = static_cast<OrtSession*>(TRITONBACKEND_ModelInstanceState(instance));
  for (uint32_t i = 0; i < count; ++i) Execute(session, requests[i]);
}

}  // extern "C"

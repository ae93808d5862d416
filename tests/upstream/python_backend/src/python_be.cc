// SPDX-License-Identifier: Apache-2.0
#include <archive.h>
#include <unistd.h>
#include <zlib.h>

#include <cstring>
#include <memory>

#include "ipc_message.h"
#include "stub_launcher.h"
#include "triton/backend/backend_common.h"
#include "triton/common/triton_json.h"

namespace triton { namespace backend { namespace python {
namespace {

namespace json = triton::common::json;

void Add(json::Value* object, const char* name, const std::string& text, json::Allocator& allocator)
{
  object->AddMember(rapidjson::StringRef(name), json::Text(text, allocator), allocator);
}

// What a model's initialize() gets: all of it text.
std::string Arguments(TRITONBACKEND_ModelInstance* instance) {
  TRITONBACKEND_Model* model = TRITONBACKEND_ModelInstanceModel(instance);
  json::Document document(rapidjson::kObjectType);
  json::Allocator& allocator = document.GetAllocator();
  Add(&document, "model_config", TRITONBACKEND_ModelConfig(model), allocator);
  Add(&document, "model_name", TRITONBACKEND_ModelName(model), allocator);
  Add(&document, "model_version", std::to_string(TRITONBACKEND_ModelVersion(model)), allocator);
  Add(&document, "model_repository", TRITONBACKEND_ModelRepository(model), allocator);
  Add(&document, "model_instance_name", TRITONBACKEND_ModelInstanceName(instance), allocator);
  Add(&document, "model_instance_kind", TRITONBACKEND_ModelInstanceKind(instance), allocator);
  Add(&document, "model_instance_device_id",
      std::to_string(TRITONBACKEND_ModelInstanceDeviceId(instance)), allocator);
  return json::Write(document);
}

// A question or answer: the length of its JSON, the JSON, the tensors one after the other.
std::string Pack(const json::Value& header, const std::string& tensors) {
  const std::string text = json::Write(header);
  const uint32_t length = uint32_t(text.size());
  return std::string(reinterpret_cast<const char*>(&length), 4) + text + tensors;
}

std::string PackRequests(TRITONBACKEND_Request** requests, uint32_t count) {
  json::Document list(rapidjson::kArrayType);
  json::Allocator& allocator = list.GetAllocator();
  std::string tensors;
  for (uint32_t i = 0; i < count; ++i) {
    json::Value inputs(rapidjson::kArrayType);
    for (const TRITONSERVER_Tensor& input : Inputs(requests[i])) {
      json::Value shape(rapidjson::kArrayType), entry(rapidjson::kObjectType);
      for (uint32_t d = 0; d < input.dims; ++d) shape.PushBack(input.shape[d], allocator);
      Add(&entry, "name", input.name, allocator);
      Add(&entry, "datatype", input.datatype, allocator);
      entry.AddMember("shape", shape, allocator);
      entry.AddMember("size", uint64_t(input.size), allocator);
      inputs.PushBack(entry, allocator);
      tensors.append(static_cast<const char*>(input.data), input.size);
    }
    list.PushBack(inputs, allocator);
  }
  return Pack(list, tensors);
}

// Answers one request from its entry; `at` moves over its tensors.
void Answer(TRITONBACKEND_Request* request, const json::Value& entry, const char** at,
            const char* end) {
  const std::string error = json::GetText(entry, "error");
  if (!error.empty()) {
    TRITONBACKEND_ResponseSetError(request, Failed(error));
    return;
  }
  const json::Value& outputs = json::Get(entry, "outputs");
  if (!outputs.IsArray()) return;
  for (const json::Value& output : outputs.GetArray()) {
    const std::string name = json::GetText(output, "name"), type = json::GetText(output, "datatype");
    std::vector<int64_t> shape;
    for (const json::Value& dim : json::Get(output, "shape").GetArray())
      shape.push_back(dim.GetInt64());
    const int64_t size = json::GetInt(output, "size");
    if (size < 0 || size > end - *at) return;
    const TRITONSERVER_Tensor tensor = {name.c_str(), type.c_str(), shape.data(),
                                        uint32_t(shape.size()), *at, size_t(size)};
    TRITONBACKEND_ResponseAddOutput(request, &tensor);
    *at += size;
  }
}

bool Unpack(const std::string& answer, json::Document* header, const char** tensors) {
  uint32_t length = 0;
  if (answer.size() < 4) return false;
  memcpy(&length, answer.data(), 4);
  *tensors = answer.data() + 4 + length;
  return answer.size() >= 4 + size_t(length) && json::Parse(answer.data() + 4, length, header);
}

StubLauncher* Stub(TRITONBACKEND_ModelInstance* instance) {
  return static_cast<StubLauncher*>(TRITONBACKEND_ModelInstanceState(instance));
}

}  // namespace
}}}  // namespace triton::backend::python

using namespace triton::backend;
using namespace triton::backend::python;

extern "C" {

void TRITONBACKEND_BackendApiVersion(uint32_t* major, uint32_t* minor) {
  *major = TRITONBACKEND_API_VERSION_MAJOR;
  *minor = TRITONBACKEND_API_VERSION_MINOR;
}

TRITONSERVER_Error* TRITONBACKEND_ModelInitialize(TRITONBACKEND_Model* model) {
  Log('I', std::string("python backend with ") + archive_version_string() + ", zlib " +
               zlibVersion() + (kDevice == kDLCPU ? ", CPU tensors only" : ""));
  const std::string path = VersionFile(model, "model.py");
  if (access(path.c_str(), R_OK) != 0)
    return Failed("model path " + path + ": " + strerror(errno));
  return nullptr;
}

void TRITONBACKEND_ModelFinalize(TRITONBACKEND_Model*) {}

TRITONSERVER_Error* TRITONBACKEND_ModelInstanceInitialize(TRITONBACKEND_ModelInstance* instance) {
  if (TRITONSERVER_Error* error = CheckKind(instance)) return error;
  TRITONBACKEND_Model* model = TRITONBACKEND_ModelInstanceModel(instance);
  const std::string dir = TRITONBACKEND_BackendDirectory(model);
  std::unique_ptr<StubLauncher> stub(new StubLauncher);
  const std::string problem =
      stub->Launch(dir + "/triton_python_backend_stub", dir, VersionFile(model, "model.py"),
                   TRITONBACKEND_ModelInstanceName(instance));
  if (!problem.empty()) return Failed("cannot start the stub: " + problem);
  std::string answer;
  if (!stub->Ask(Arguments(instance), &answer))
    return Failed(std::string("Stub process '") + TRITONBACKEND_ModelInstanceName(instance) +
                  "' is not healthy.");
  if (!answer.empty()) return Failed(answer);
  TRITONBACKEND_ModelInstanceSetState(instance, stub.release());
  return nullptr;
}

void TRITONBACKEND_ModelInstanceFinalize(TRITONBACKEND_ModelInstance* instance) {
  delete Stub(instance);
}

void TRITONBACKEND_ModelInstanceExecute(
    TRITONBACKEND_ModelInstance* instance, TRITONBACKEND_Request** requests, uint32_t count) {
  std::string answer;
  json::Document header;
  const char* tensors = nullptr;
  if (!Stub(instance)->Ask(PackRequests(requests, count), &answer))
    return FailAll(requests, count, "Stub process is unhealthy and it will be restarted.");
  if (!Unpack(answer, &header, &tensors) || !header.IsArray() || header.Size() != count)
    return FailAll(requests, count, "the stub's answer is not understood");
  for (uint32_t i = 0; i < count; ++i)
    Answer(requests[i], header[i], &tensors, answer.data() + answer.size());
}

}  // extern "C"

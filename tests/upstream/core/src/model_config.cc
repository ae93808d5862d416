// SPDX-License-Identifier: Apache-2.0
#include "model_config.h"

#include <google/protobuf/text_format.h>
#include <sys/stat.h>

#include <cstdio>
#include <cstdlib>

#include "triton/common/triton_json.h"

namespace triton { namespace core {

namespace json = triton::common::json;
using google::protobuf::TextField;

namespace {

// kind: s text, i number, b bool, e word, m message, p map, x whatever (left out)
struct Spec {
  const char* name;
  char kind;
  bool repeated;
  const Spec* fields;
};

const Spec kEmpty[] = {{nullptr, 0, false, nullptr}};
const Spec kInput[] = {
    {"name", 's', false, nullptr},          {"data_type", 'e', false, nullptr},
    {"format", 'e', false, nullptr},        {"dims", 'i', true, nullptr},
    {"reshape", 'x', false, nullptr},       {"is_shape_tensor", 'b', false, nullptr},
    {"optional", 'b', false, nullptr},      {"allow_ragged_batch", 'b', false, nullptr},
    {"label_filename", 's', false, nullptr}, {nullptr, 0, false, nullptr}};
const Spec kGroup[] = {
    {"name", 's', false, nullptr}, {"kind", 'e', false, nullptr}, {"count", 'i', false, nullptr},
    {"gpus", 'i', true, nullptr},  {nullptr, 0, false, nullptr}};
const Spec kBatching[] = {
    {"preferred_batch_size", 'i', true, nullptr},
    {"max_queue_delay_microseconds", 'i', false, nullptr},
    {"preserve_ordering", 'b', false, nullptr}, {nullptr, 0, false, nullptr}};
const Spec kText[] = {{"value", 's', false, nullptr}, {nullptr, 0, false, nullptr}};
const Spec kStep[] = {
    {"model_name", 's', false, nullptr}, {"model_version", 'i', false, nullptr},
    {"input_map", 'p', false, kText},    {"output_map", 'p', false, kText},
    {nullptr, 0, false, nullptr}};
const Spec kEnsemble[] = {{"step", 'm', true, kStep}, {nullptr, 0, false, nullptr}};
const Spec kString[] = {{"string_value", 's', false, nullptr}, {nullptr, 0, false, nullptr}};
const Spec kParameter[] = {{"value", 'm', false, kString}, {nullptr, 0, false, nullptr}};
const Spec kModel[] = {
    {"name", 's', false, nullptr},         {"platform", 's', false, nullptr},
    {"backend", 's', false, nullptr},      {"version_policy", 'x', false, nullptr},
    {"max_batch_size", 'i', false, nullptr}, {"input", 'm', true, kInput},
    {"output", 'm', true, kInput},         {"instance_group", 'm', true, kGroup},
    {"default_model_filename", 's', false, nullptr},
    {"dynamic_batching", 'm', false, kBatching},
    {"ensemble_scheduling", 'm', false, kEnsemble},
    {"parameters", 'p', false, kParameter}, {"optimization", 'x', false, nullptr},
    {"model_warmup", 'x', false, nullptr}, {nullptr, 0, false, nullptr}};

[[noreturn]] void Fail(const std::string& message) {
  throw Failure{TRITONSERVER_ERROR_INVALID_ARG, message};
}

const Spec& Find(const Spec* specs, const std::string& name) {
  for (; specs->name != nullptr; ++specs)
    if (name == specs->name) return *specs;
  Fail("Message type \"inference.ModelConfig\" has no field named \"" + name + "\"");
}

json::Value Convert(
    const std::vector<TextField>& fields, const Spec* specs, json::Allocator& allocator);

json::Value ConvertOne(const TextField& field, const Spec& spec, json::Allocator& allocator) {
  if (field.message != (spec.kind == 'm') || (spec.kind == 's') != (field.quoted && !field.message))
    Fail("wrong kind of value for \"" + field.name + "\"");
  if (spec.kind == 'm') return Convert(field.fields, spec.fields, allocator);
  if (spec.kind == 'b') return json::Value(field.value == "true" || field.value == "1");
  if (spec.kind != 'i') return json::Text(field.value, allocator);
  char* end = nullptr;
  const long long number = strtoll(field.value.c_str(), &end, 10);
  if (end == field.value.c_str() || *end != '\0')
    Fail("\"" + field.name + "\" is not a number: " + field.value);
  return json::Value(static_cast<int64_t>(number));
}

void AddMapEntry(
    const TextField& field, const Spec& spec, json::Value* object, json::Allocator& allocator) {
  std::string key;
  for (const TextField& part : field.fields)
    if (part.name == "key")
      key = part.value;
    else
      object->AddMember(
          json::Text(key, allocator),
          ConvertOne(part, Find(spec.fields, part.name), allocator).Move(), allocator);
}

json::Value Convert(
    const std::vector<TextField>& fields, const Spec* specs, json::Allocator& allocator) {
  json::Value object(rapidjson::kObjectType);
  for (const TextField& field : fields) {
    const Spec& spec = Find(specs, field.name);
    if (spec.kind == 'x') continue;
    if (!object.HasMember(spec.name) && (spec.repeated || spec.kind == 'p')) {
      json::Value empty(spec.repeated ? rapidjson::kArrayType : rapidjson::kObjectType);
      object.AddMember(rapidjson::StringRef(spec.name), empty, allocator);
    }
    if (spec.kind == 'p') {
      AddMapEntry(field, spec, &object[spec.name], allocator);
    } else if (spec.repeated) {
      object[spec.name].PushBack(ConvertOne(field, spec, allocator).Move(), allocator);
    } else {
      if (object.HasMember(spec.name)) Fail("\"" + field.name + "\" stands there twice");
      json::Value value = ConvertOne(field, spec, allocator);
      object.AddMember(rapidjson::StringRef(spec.name), value, allocator);
    }
  }
  return object;
}

void Default(json::Document* document, const char* name, json::Value value) {
  if (!document->HasMember(name))
    document->AddMember(rapidjson::StringRef(name), value, document->GetAllocator());
}

std::vector<int64_t> Numbers(const json::Value& value) {
  std::vector<int64_t> numbers;
  if (value.IsArray())
    for (const json::Value& one : value.GetArray())
      if (one.IsInt64()) numbers.push_back(one.GetInt64());
  return numbers;
}

std::map<std::string, std::string> Texts(const json::Value& value) {
  std::map<std::string, std::string> texts;
  if (value.IsObject())
    for (const auto& one : value.GetObject())
      if (one.value.IsString()) texts[one.name.GetString()] = one.value.GetString();
  return texts;
}

std::vector<TensorConfig> ParseTensors(
    const json::Value& value, const char* what, const std::string& model) {
  std::vector<TensorConfig> tensors;
  if (!value.IsArray()) return tensors;
  for (const json::Value& one : value.GetArray()) {
    TensorConfig tensor;
    tensor.name = json::GetText(one, "name");
    const std::string type = json::GetText(one, "data_type");
    tensor.datatype =
        type == "TYPE_STRING" ? "BYTES" : type.compare(0, 5, "TYPE_") == 0 ? type.substr(5) : type;
    tensor.dims = Numbers(json::Get(one, "dims"));
    if (tensor.name.empty()) Fail(std::string("model ") + what + " must have a name: " + model);
    if (DatatypeSize(tensor.datatype) < 0)
      Fail(std::string("model ") + what + " '" + tensor.name + "' must specify 'data_type'");
    if (tensor.dims.empty())
      Fail(std::string("model ") + what + " '" + tensor.name + "' must specify 'dims'");
    tensors.push_back(tensor);
  }
  return tensors;
}

std::vector<InstanceGroup> ParseGroups(const json::Value& value, const std::string& model) {
  std::vector<InstanceGroup> groups;
  if (!value.IsArray()) return groups;
  for (const json::Value& one : value.GetArray()) {
    InstanceGroup group;
    group.kind = json::GetText(one, "kind");
    group.count = json::GetInt(one, "count", 1);
    group.gpus = Numbers(json::Get(one, "gpus"));
#if !defined(TRITON_ENABLE_GPU) && !defined(TRITON_ENABLE_MALI_GPU)
    if (group.kind == "KIND_GPU")
      Fail("instance group " + json::GetText(one, "name") + " of model " + model +
           " has kind KIND_GPU but server does not support GPUs");
#endif
    if (group.count < 1 || group.count > 64) Fail("instance group count of " + model + " is wrong");
    groups.push_back(group);
  }
  return groups;
}

bool Exists(const std::string& path) {
  struct stat found;
  return stat(path.c_str(), &found) == 0;
}

}  // namespace

int64_t DatatypeSize(const std::string& datatype) {
  static const std::map<std::string, int64_t> sizes = {
      {"BOOL", 1},  {"UINT8", 1}, {"UINT16", 2}, {"UINT32", 4}, {"UINT64", 8}, {"INT8", 1},
      {"INT16", 2}, {"INT32", 4}, {"INT64", 8},  {"FP16", 2},   {"FP32", 4},   {"FP64", 8},
      {"BF16", 2},  {"BYTES", 0}};
  const auto found = sizes.find(datatype);
  return found == sizes.end() ? -1 : found->second;
}

std::string ReadModelConfig(const std::string& path) {
  std::string text;
  if (FILE* file = fopen(path.c_str(), "rb")) {
    char buffer[4096];
    for (size_t got; (got = fread(buffer, 1, sizeof(buffer), file)) > 0;) text.append(buffer, got);
    fclose(file);
  }
  std::vector<TextField> fields;
  std::string error;
  if (!google::protobuf::ParseTextFormat(text, &fields, &error))
    Fail("failed to read text proto from " + path + ": " + error);
  json::Document document;
  json::Value object = Convert(fields, kModel, document.GetAllocator());
  return json::Write(object);
}

std::string CompleteModelConfig(
    const std::string& config, const std::string& name, const std::string& version_dir) {
  json::Document document;
  if (!json::Parse(config.data(), config.size(), &document) || !document.IsObject())
    Fail("the config of " + name + " is no JSON object");
  json::Allocator& allocator = document.GetAllocator();
  const std::string given = json::GetText(document, "name");
  if (!given.empty() && given != name)
    Fail("unexpected directory name '" + name + "' for model '" + given +
         "', directory name must equal model name");
  Default(&document, "name", json::Text(name, allocator));
  Default(&document, "platform", json::Value(""));
  std::string backend = json::GetText(document, "backend");
  if (backend.empty() && json::GetText(document, "platform").empty()) {
    backend = Exists(version_dir + "/model.onnx")   ? "onnxruntime"
              : Exists(version_dir + "/model.py")   ? "python"
              : Exists(version_dir + "/model.rknn") ? "rknn"
                                                    : "";
    if (backend.empty()) Fail("unexpected platform type '' for " + name);
    document.RemoveMember("backend");
  }
  Default(&document, "backend", json::Text(backend, allocator));
  Default(&document, "max_batch_size", json::Value(0));
  Default(&document, "input", json::Value(rapidjson::kArrayType));
  Default(&document, "output", json::Value(rapidjson::kArrayType));
  Default(&document, "parameters", json::Value(rapidjson::kObjectType));
  if (json::GetText(document, "platform") != "ensemble") {
    Default(&document, "instance_group", json::Value(rapidjson::kArrayType));
    json::Value& groups = document["instance_group"];
    if (groups.Empty())
      groups.PushBack(json::Value(rapidjson::kObjectType), allocator);
    for (rapidjson::SizeType i = 0; i < groups.Size(); ++i) {
      json::Value& group = groups[i];
      if (!group.HasMember("name"))
        group.AddMember("name", json::Text(name + "_" + std::to_string(i), allocator), allocator);
      const std::string kind = json::GetText(group, "kind");
      if (kind.empty() || kind == "KIND_AUTO") {
        group.RemoveMember("kind");
        group.AddMember("kind", "KIND_CPU", allocator);
      }
      if (!group.HasMember("count"))
        group.AddMember("count", backend == "onnxruntime" ? 2 : 1, allocator);
    }
  }
  return json::Write(document);
}

ModelConfig ParseModelConfig(const std::string& text, const std::string& name) {
  json::Document document;
  if (!json::Parse(text.data(), text.size(), &document)) Fail("the config of " + name + " is no JSON");
  ModelConfig config;
  config.backend = json::GetText(document, "backend");
  config.platform = json::GetText(document, "platform");
  config.max_batch_size = json::GetInt(document, "max_batch_size");
  config.inputs = ParseTensors(json::Get(document, "input"), "input", name);
  config.outputs = ParseTensors(json::Get(document, "output"), "output", name);
  if (config.inputs.empty() || config.outputs.empty())
    Fail("must specify inputs and outputs for " + name);
  config.groups = ParseGroups(json::Get(document, "instance_group"), name);
  const json::Value& batching = json::Get(document, "dynamic_batching");
  config.dynamic_batching = batching.IsObject() && config.max_batch_size > 1;
  config.preferred_batch_sizes = Numbers(json::Get(batching, "preferred_batch_size"));
  config.queue_delay_us = json::GetInt(batching, "max_queue_delay_microseconds");
  for (int64_t size : config.preferred_batch_sizes)
    if (size < 1 || size > config.max_batch_size)
      Fail("dynamic batching preferred size must be positive and at most max_batch_size for " + name);
  const json::Value& steps = json::Get(json::Get(document, "ensemble_scheduling"), "step");
  if (steps.IsArray())
    for (const json::Value& one : steps.GetArray())
      config.steps.push_back({json::GetText(one, "model_name"), Texts(json::Get(one, "input_map")),
                              Texts(json::Get(one, "output_map"))});
  if ((config.platform == "ensemble") == config.steps.empty())
    Fail("an ensemble must have steps, and nothing else may: " + name);
  return config;
}

}}  // namespace triton::core

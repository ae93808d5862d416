// SPDX-License-Identifier: Apache-2.0
// The KServe protocol over HTTP, with JSON and binary tensors.
#include "http_server.h"

#if defined(TRITON_ENABLE_HTTP) || defined(TRITON_ENABLE_METRICS)

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <string>
#include <vector>

#include "triton/common/triton_json.h"
#include "triton/core/tritonserver.h"

namespace json = triton::common::json;

namespace {

const char* const kHeaderLength = "Inference-Header-Content-Length";

struct Refusal {
  int status;
  std::string message;
};

[[noreturn]] void Refuse(const std::string& message, int status = 400) {
  throw Refusal{status, message};
}

// Up to 2.41 every error is a 400.
void Check(TRITONSERVER_Error* error) {
  if (error == nullptr) return;
  const std::string message = TRITONSERVER_ErrorMessage(error);
  TRITONSERVER_ErrorDelete(error);
  Refuse(message);
}

void Answer(evhtp_response* response, const std::string& body) {
  response->body = static_cast<char*>(malloc(body.size() + 1));
  memcpy(response->body, body.data(), body.size());
  response->body_length = body.size();
}

// --- tensors ---------------------------------------------------------------------------------

struct Input {
  std::string name, datatype, data;
  std::vector<int64_t> shape;
};

size_t ElementSize(const std::string& type) {
  if (type == "BYTES") return 0;
  if (type == "BOOL" || type == "INT8" || type == "UINT8") return 1;
  if (type == "INT16" || type == "UINT16" || type == "FP16" || type == "BF16") return 2;
  if (type == "INT32" || type == "UINT32" || type == "FP32") return 4;
  if (type == "INT64" || type == "UINT64" || type == "FP64") return 8;
  Refuse("Unable to parse 'datatype': '" + type + "' is not a valid datatype");
}

template <typename Number>
void Append(Number number, std::string* data) {
  data->append(reinterpret_cast<const char*>(&number), sizeof(number));
}

template <typename Number>
void AppendInteger(const json::Value& value, const std::string& name, std::string* data) {
  const bool is_signed = std::numeric_limits<Number>::is_signed;
  if (value.IsBool()) return Append(Number(value.GetBool()), data);
  if (is_signed ? !value.IsInt64() : !value.IsUint64())
    Refuse("Unable to parse 'data': attempt to access JSON non-integer in input '" + name + "'");
  const Number number = is_signed ? Number(value.GetInt64()) : Number(value.GetUint64());
  if (is_signed ? int64_t(number) != value.GetInt64() : uint64_t(number) != value.GetUint64())
    Refuse("Unable to parse 'data': a number of input '" + name + "' does not fit its datatype");
  Append(number, data);
}

void AppendElement(const json::Value& value, const Input& input, std::string* data) {
  const std::string& type = input.datatype;
  if (type == "BYTES") {
    if (!value.IsString()) Refuse("Unable to parse 'data': '" + input.name + "' needs strings");
    Append(uint32_t(value.GetStringLength()), data);
    data->append(value.GetString(), value.GetStringLength());
  } else if (type == "FP32" || type == "FP64") {
    if (!value.IsNumber())
      Refuse("Unable to parse 'data': attempt to access JSON non-double in '" + input.name + "'");
    if (type == "FP32")
      Append(float(value.GetDouble()), data);
    else
      Append(value.GetDouble(), data);
  } else if (type == "BOOL") {
    if (!value.IsBool() && !value.IsInt()) Refuse("Unable to parse 'data': not a boolean");
    Append(char(value.IsBool() ? value.GetBool() : value.GetInt() != 0), data);
  } else if (type == "INT8") {
    AppendInteger<int8_t>(value, input.name, data);
  } else if (type == "UINT8") {
    AppendInteger<uint8_t>(value, input.name, data);
  } else if (type == "INT16") {
    AppendInteger<int16_t>(value, input.name, data);
  } else if (type == "UINT16") {
    AppendInteger<uint16_t>(value, input.name, data);
  } else if (type == "INT32") {
    AppendInteger<int32_t>(value, input.name, data);
  } else if (type == "UINT32") {
    AppendInteger<uint32_t>(value, input.name, data);
  } else if (type == "INT64") {
    AppendInteger<int64_t>(value, input.name, data);
  } else if (type == "UINT64") {
    AppendInteger<uint64_t>(value, input.name, data);
  } else {
    Refuse("sending " + type + " data via JSON is not supported. Please use the binary data format");
  }
}

size_t AppendAll(const json::Value& value, const Input& input, std::string* data) {
  if (!value.IsArray()) {
    AppendElement(value, input, data);
    return 1;
  }
  size_t count = 0;
  for (const json::Value& one : value.GetArray()) count += AppendAll(one, input, data);
  return count;
}

Input ParseInput(const json::Value& entry, const char** binary, size_t* left) {
  Input input;
  input.name = json::GetText(entry, "name");
  input.datatype = json::GetText(entry, "datatype");
  const json::Value& shape = json::Get(entry, "shape");
  if (input.name.empty() || !shape.IsArray()) Refuse("Unable to parse 'inputs': no name or shape");
  const size_t element = ElementSize(input.datatype);
  uint64_t count = 1;
  for (const json::Value& dim : shape.GetArray()) {
    if (!dim.IsInt64() || dim.GetInt64() < 0 || dim.GetInt64() > (int64_t(1) << 32))
      Refuse("Unable to parse 'shape' of input '" + input.name + "'");
    input.shape.push_back(dim.GetInt64());
    count *= uint64_t(dim.GetInt64());
    if (count > (uint64_t(1) << 40)) Refuse("the shape of input '" + input.name + "' is too large");
  }
  const json::Value& size = json::Get(json::Get(entry, "parameters"), "binary_data_size");
  if (!size.IsNull()) {
    if (!size.IsUint64() || size.GetUint64() > *left)
      Refuse("unexpected size for input '" + input.name + "', not enough binary data: expecting " +
             (size.IsUint64() ? std::to_string(size.GetUint64()) : "a number") + " bytes, got " +
             std::to_string(*left));
    input.data.assign(*binary, size.GetUint64());
    *binary += size.GetUint64();
    *left -= size.GetUint64();
    if (element > 0 && input.data.size() != count * element)
      Refuse("input byte size mismatch for input '" + input.name + "'. Expected " +
             std::to_string(count * element) + ", got " + std::to_string(input.data.size()));
    return input;
  }
  const json::Value& data = json::Get(entry, "data");
  if (!data.IsArray()) Refuse("missing 'data' for input '" + input.name + "'");
  if (AppendAll(data, input, &input.data) != count)
    Refuse("Unable to parse 'data': Shape does not match true shape of 'data' field");
  return input;
}

json::Value Element(const std::string& type, const char** data, json::Allocator& allocator) {
  const char* at = *data;
  const auto read = [&at](void* target, size_t size) {
    memcpy(target, at, size);
    at += size;
  };
  json::Value value;
  int64_t number = 0;
  uint32_t length = 0;
  float single = 0;
  double real = 0;
  if (type == "FP32") {
    read(&single, 4);
    value.SetDouble(single);
  } else if (type == "FP64") {
    read(&real, 8);
    value.SetDouble(real);
  } else if (type == "BYTES") {
    read(&length, 4);
    value.SetString(at, length, allocator);
    at += length;
  } else if (type == "BOOL") {
    value.SetBool(*at++ != 0);
  } else if (type == "UINT64") {
    read(&number, 8);
    value.SetUint64(uint64_t(number));
  } else {
    const size_t size = ElementSize(type);
    read(&number, size);  // little-endian; the sign is put where it belongs
    if (type[0] == 'I' && size < 8) number = int64_t(uint64_t(number) << (64 - 8 * size)) >> (64 - 8 * size);
    value.SetInt64(number);
  }
  *data = at;
  return value;
}

// --- inference -------------------------------------------------------------------------------

struct Wanted {
  std::vector<std::string> names, binary_names;
  bool all_binary = false;

  bool IsBinary(const std::string& name) const {
    for (const std::string& one : binary_names)
      if (one == name) return true;
    return all_binary;
  }
};

Wanted ParseWanted(const json::Value& document, bool raw) {
  Wanted wanted;
  const json::Value& outputs = json::Get(document, "outputs");
  wanted.all_binary =
      raw || json::Get(json::Get(document, "parameters"), "binary_data_output").IsTrue();
  if (!outputs.IsArray()) return wanted;
  for (const json::Value& one : outputs.GetArray()) {
    wanted.names.push_back(json::GetText(one, "name"));
    if (json::Get(json::Get(one, "parameters"), "binary_data").IsTrue())
      wanted.binary_names.push_back(wanted.names.back());
  }
  return wanted;
}

void WriteAnswer(const json::Value& request, const std::string& model, const Wanted& wanted,
                 TRITONSERVER_Response* answer, evhtp_response* response) {
  json::Document document(rapidjson::kObjectType);
  json::Allocator& allocator = document.GetAllocator();
  if (!json::GetText(request, "id").empty())
    document.AddMember("id", json::Text(json::GetText(request, "id"), allocator), allocator);
  document.AddMember("model_name", json::Text(model, allocator), allocator);
  document.AddMember(
      "model_version", json::Text(TRITONSERVER_ResponseModelVersion(answer), allocator), allocator);
  json::Value outputs(rapidjson::kArrayType);
  std::string binary;
  bool any_binary = false;
  for (uint32_t i = 0; i < TRITONSERVER_ResponseOutputCount(answer); ++i) {
    TRITONSERVER_Tensor tensor;
    TRITONSERVER_ResponseOutput(answer, i, &tensor);
    json::Value entry(rapidjson::kObjectType), shape(rapidjson::kArrayType);
    entry.AddMember("name", json::Text(tensor.name, allocator), allocator);
    entry.AddMember("datatype", json::Text(tensor.datatype, allocator), allocator);
    for (uint32_t d = 0; d < tensor.dims; ++d) shape.PushBack(tensor.shape[d], allocator);
    entry.AddMember("shape", shape, allocator);
    const char* data = static_cast<const char*>(tensor.data);
    if (wanted.IsBinary(tensor.name)) {
      any_binary = true;
      json::Value parameters(rapidjson::kObjectType);
      parameters.AddMember("binary_data_size", uint64_t(tensor.size), allocator);
      entry.AddMember("parameters", parameters, allocator);
      binary.append(data, tensor.size);
    } else {
      json::Value values(rapidjson::kArrayType);
      for (const char* end = data + tensor.size; data < end;)
        values.PushBack(Element(tensor.datatype, &data, allocator).Move(), allocator);
      entry.AddMember("data", values, allocator);
    }
    outputs.PushBack(entry, allocator);
  }
  document.AddMember("outputs", outputs, allocator);
  const std::string header = json::Write(document);
  if (any_binary) {
    strcpy(response->content_type, "application/octet-stream");
    snprintf(response->extra_headers, sizeof(response->extra_headers), "%s: %zu\r\n", kHeaderLength,
             header.size());
  }
  Answer(response, header + binary);
}

void Infer(TRITONSERVER_Server* server, const std::string& model, const std::string& version,
           const evhtp_request* request, evhtp_response* response) {
  char text[64];
  size_t header = request->body_length;
  if (evhtp_header(request, kHeaderLength, text, sizeof(text))) {
    char* end = nullptr;
    header = strtoull(text, &end, 10);
    if (*text == '\0' || *end != '\0' || header > request->body_length)
      Refuse("Unable to parse 'Inference-Header-Content-Length': " + std::string(text) +
             " is not within the request's " + std::to_string(request->body_length) + " bytes");
  }
  json::Document document;
  if (!json::Parse(request->body, header, &document) || !document.IsObject())
    Refuse("failed to parse the request JSON buffer at " +
           std::to_string(document.GetErrorOffset()));
  const json::Value& entries = json::Get(document, "inputs");
  if (!entries.IsArray()) Refuse("Unable to parse 'inputs': attempt to access non-existing object");
  const char* binary = request->body + header;
  size_t left = request->body_length - header;
  std::vector<Input> inputs;
  for (const json::Value& entry : entries.GetArray())
    inputs.push_back(ParseInput(entry, &binary, &left));
  if (left > 0)
    Refuse("unexpected additional input data for model '" + model + "'");
  const Wanted wanted = ParseWanted(document, false);
  std::vector<TRITONSERVER_Tensor> tensors;
  for (const Input& one : inputs)
    tensors.push_back({one.name.c_str(), one.datatype.c_str(), one.shape.data(),
                       uint32_t(one.shape.size()), one.data.data(), one.data.size()});
  std::vector<const char*> names;
  for (const std::string& one : wanted.names) names.push_back(one.c_str());
  TRITONSERVER_Response* answer = nullptr;
  Check(TRITONSERVER_ServerInfer(
      server, model.c_str(), version.c_str(), tensors.data(), uint32_t(tensors.size()),
      names.data(), uint32_t(names.size()), &answer));
  WriteAnswer(document, model, wanted, answer, response);
  TRITONSERVER_ResponseDelete(answer);
}

// --- paths -----------------------------------------------------------------------------------

std::vector<std::string> Split(const char* path) {
  std::vector<std::string> parts;
  std::string part;
  for (; *path != '\0'; ++path) {
    unsigned code = 0;
    if (*path == '/') {
      if (!part.empty()) parts.push_back(part);
      part.clear();
    } else if (*path == '%' && sscanf(path + 1, "%2x", &code) == 1 && path[1] && path[2]) {
      part += char(code);
      path += 2;
    } else {
      part += *path;
    }
  }
  if (!part.empty()) parts.push_back(part);
  return parts;
}

void Describe(TRITONSERVER_Server* server, const char* what, const std::string& model,
              const std::string& version, evhtp_response* response) {
  char* text = nullptr;
  Check(TRITONSERVER_ServerDescribe(server, what, model.c_str(), version.c_str(), &text));
  response->body = text;
  response->body_length = strlen(text);
}

void HandleModel(TRITONSERVER_Server* server, std::vector<std::string> parts, bool post,
                 const evhtp_request* request, evhtp_response* response) {
  // v2/models/NAME[/versions/VERSION][/WHAT]
  const std::string model = parts.size() > 2 ? parts[2] : "";
  std::string version, what;
  size_t at = 3;
  if (parts.size() > at + 1 && parts[at] == "versions") {
    version = parts[at + 1];
    at += 2;
  }
  if (parts.size() > at) what = parts[at++];
  if (parts.size() > at) Refuse("Not Found", 404);
  if (what == "infer" && post)
    Infer(server, model, version, request, response);
  else if (post)
    Refuse("Method Not Allowed", 405);
  else if (what == "ready")
    response->status =
        TRITONSERVER_ServerModelIsReady(server, model.c_str(), version.c_str()) ? 200 : 400;
  else if (model == "stats" && what.empty())
    Refuse("statistics are asked for one model here");
  else if (what == "stats" || what == "config" || what.empty())
    Describe(server, what.empty() ? "model" : what == "stats" ? "statistics" : "config", model,
             version, response);
  else
    Refuse("Not Found", 404);
}

void Route(TRITONSERVER_Server* server, const evhtp_request* request, evhtp_response* response) {
  const std::vector<std::string> parts = Split(request->path);
  const bool post = strcmp(request->method, "POST") == 0;
  if (!post && strcmp(request->method, "GET") != 0) Refuse("Method Not Allowed", 405);
  if (parts.empty() || parts[0] != "v2") Refuse("Not Found", 404);
  const std::string area = parts.size() > 1 ? parts[1] : "";
  if (area.empty()) {
    Describe(server, "server", "", "", response);
  } else if (area == "health" && parts.size() == 3 && parts[2] == "live") {
    response->status = 200;
  } else if (area == "health" && parts.size() == 3 && parts[2] == "ready") {
    response->status = TRITONSERVER_ServerIsReady(server) ? 200 : 400;
  } else if (area == "models") {
    HandleModel(server, parts, post, request, response);
  } else if (area == "repository" && post && parts.size() == 3 && parts[2] == "index") {
    Describe(server, "index", "", "", response);
  } else if (area == "repository" && post && parts.size() == 5 && parts[4] == "load") {
    Check(TRITONSERVER_ServerLoadModel(server, parts[3].c_str()));
  } else if (area == "repository" && post && parts.size() == 5 && parts[4] == "unload") {
    Check(TRITONSERVER_ServerUnloadModel(server, parts[3].c_str()));
  } else {
    Refuse("Not Found", 404);
  }
}

template <typename Body>
void Guard(evhtp_response* response, Body body) {
  Refusal refusal{0, ""};
  try {
    body();
  }
  catch (const Refusal& caught) {
    refusal = caught;
  }
  catch (const std::exception& caught) {
    refusal = {400, caught.what()};
  }
  if (refusal.status == 0) return;
  json::Document document(rapidjson::kObjectType);
  document.AddMember(
      "error", json::Text(refusal.message, document.GetAllocator()), document.GetAllocator());
  response->status = refusal.status;
  Answer(response, json::Write(document));
}

}  // namespace

void HandleInference(const evhtp_request* request, evhtp_response* response, void* server) {
  Guard(response, [&] { Route(static_cast<TRITONSERVER_Server*>(server), request, response); });
}

void HandleMetrics(const evhtp_request* request, evhtp_response* response, void* server) {
  Guard(response, [&] {
    if (strcmp(request->path, "/metrics") != 0) Refuse("Not Found", 404);
    Describe(static_cast<TRITONSERVER_Server*>(server), "metrics", "", "", response);
    strcpy(response->content_type, "text/plain; charset=utf-8");
  });
}

#endif

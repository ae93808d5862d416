// SPDX-License-Identifier: Apache-2.0
// The library's C interface, and the repository of models behind it.
#include <dirent.h>
#include <numa.h>
#include <re2/re2.h>
#include <sys/stat.h>
#include <sys/sysinfo.h>

#include <cstdlib>
#include <cstring>

#ifdef TRITON_ENABLE_METRICS
#include <prometheus/registry.h>
#endif

#include "model.h"
#include "triton/common/error.h"
#include "triton/common/logging.h"
#include "triton/common/triton_json.h"

using namespace triton::core;
namespace json = triton::common::json;

struct TRITONSERVER_Error {
  Failure failure;
};

struct TRITONSERVER_Response {
  std::vector<Tensor> outputs;
  std::string version;
};

namespace {

struct Entry {
  std::string state, reason, version;
  std::shared_ptr<Model> model;
};

const char* const kExtensions[] = {
    "model_repository", "model_repository(unload_dependents)", "model_configuration",
    "binary_tensor_data", "parameters",
#ifdef TRITON_ENABLE_STATS
    "statistics",
#endif
#ifdef TRITON_ENABLE_LOGGING
    "logging",
#endif
};

// Runs `body` and turns what it throws into an error.
template <typename Body>
TRITONSERVER_Error* Guard(Body body) {
  try {
    body();
    return nullptr;
  }
  catch (const Failure& failure) {
    return new TRITONSERVER_Error{failure};
  }
  catch (const std::exception& error) {
    return new TRITONSERVER_Error{{TRITONSERVER_ERROR_INTERNAL, error.what()}};
  }
}

std::vector<std::string> ListDirs(const std::string& path) {
  std::vector<std::string> names;
  DIR* listing = opendir(path.c_str());
  if (listing == nullptr)
    throw Failure{TRITONSERVER_ERROR_INTERNAL, "failed to open directory at path " + path};
  while (dirent* entry = readdir(listing)) {
    struct stat found;
    const std::string name = entry->d_name;
    if (name[0] != '.' && stat((path + "/" + name).c_str(), &found) == 0 && S_ISDIR(found.st_mode))
      names.push_back(name);
  }
  closedir(listing);
  return names;
}

}  // namespace

struct TRITONSERVER_Server {
  std::vector<std::string> repositories;
  std::string backend_directory;
  bool auto_complete = true, strict_readiness = true;
  std::mutex loading;  // one model at a time
  mutable std::mutex mutex;
  std::map<std::string, Entry> entries;

  std::shared_ptr<Model> Find(const std::string& name, const std::string& version) const {
    std::lock_guard<std::mutex> lock(mutex);
    const auto found = entries.find(name);
    if (found == entries.end() || !found->second.model)
      throw Failure{TRITONSERVER_ERROR_NOT_FOUND,
                    "Request for unknown model: '" + name +
                        (found == entries.end() ? "' is not found" : "' has no available versions")};
    if (!version.empty() && version != found->second.version)
      throw Failure{TRITONSERVER_ERROR_NOT_FOUND, "Request for unknown model: '" + name +
                                                      "' version " + version + " is not found"};
    return found->second.model;
  }

  void Load(const std::string& name) {
    std::lock_guard<std::mutex> lock(loading);
    LoadLocked(name, 0);
  }

  void LoadLocked(const std::string& name, int depth) {
    std::string repository;
    for (const std::string& one : repositories)
      for (const std::string& found : ListDirs(one))
        if (found == name) repository = one;
    if (repository.empty())
      throw Failure{TRITONSERVER_ERROR_INTERNAL,
                    "failed to load '" + name + "', failed to poll from model repository"};
    Set(name, {"LOADING", "", "", nullptr}, true);
    std::shared_ptr<Model> model;
    try {
      model = std::make_shared<Model>(name, repository, backend_directory, auto_complete);
      for (const EnsembleStep& step : model->Config().steps) {
        if (depth > 8) throw Failure{TRITONSERVER_ERROR_INVALID_ARG, "circular ensemble"};
        if (!IsReady(step.model, "")) LoadLocked(step.model, depth + 1);
      }
    }
    catch (const Failure& failure) {
      const std::string reason = failure.message;
      Set(name, {"UNAVAILABLE", reason, "1", nullptr}, true);
      LOG_ERROR(("failed to load '" + name + "' version 1: " + reason).c_str());
      throw Failure{failure.code, "load failed for model '" + name +
                                      "': version 1 is at UNAVAILABLE state: " + reason + ";"};
    }
    Set(name, {"READY", "", model->Version(), model}, false);
    LOG_INFO(("successfully loaded '" + name + "'").c_str());
  }

  // A model that is replaced ends outside of the lock, once nobody asks it any more. With
  // `keep_model` one that is there stays.
  void Set(const std::string& name, Entry entry, bool keep_model) {
    std::lock_guard<std::mutex> lock(mutex);
    if (keep_model && entries[name].model) return;
    std::swap(entries[name], entry);
  }

  void Unload(const std::string& name) {
    std::lock_guard<std::mutex> lock(loading);
    {
      std::lock_guard<std::mutex> inner(mutex);
      if (entries.count(name) == 0)
        throw Failure{TRITONSERVER_ERROR_INTERNAL, "failed to unload '" + name + "', not loaded"};
    }
    Set(name, {"UNAVAILABLE", "unloaded", "1", nullptr}, false);
    LOG_INFO(("successfully unloaded '" + name + "'").c_str());
  }

  bool IsReady(const std::string& name, const std::string& version) const {
    std::lock_guard<std::mutex> lock(mutex);
    const auto found = entries.find(name);
    return found != entries.end() && found->second.model &&
           (version.empty() || version == found->second.version);
  }

  void Infer(const std::string& name, const std::string& version, TRITONBACKEND_Request* request) {
    const std::shared_ptr<Model> model = Find(name, version);
    const uint64_t started = NowNs();
    model->Check(request);
    if (model->Config().steps.empty()) {
      model->Execute(request);
    } else {
      try {
        InferEnsemble(*model, request);
      }
      catch (const Failure& failure) {
        request->failure.reset(new Failure(failure));
      }
      model->Count(*request, started, false);
    }
    if (request->failure) throw *request->failure;
  }

  // Runs each step as soon as its inputs are there, one after the other.
  void InferEnsemble(const Model& model, TRITONBACKEND_Request* request) {
    std::map<std::string, Tensor> known;
    for (const Tensor& input : request->inputs) known.emplace(input.name, input);
    std::vector<const EnsembleStep*> left;
    for (const EnsembleStep& step : model.Config().steps) left.push_back(&step);
    while (!left.empty()) {
      const size_t before = left.size();
      for (size_t i = 0; i < left.size();) {
        bool ready = true;
        for (const auto& input : left[i]->inputs) ready = ready && known.count(input.second) == 1;
        if (!ready) {
          ++i;
          continue;
        }
        RunStep(*left[i], &known);
        left.erase(left.begin() + i);
      }
      if (left.size() == before)
        throw Failure{TRITONSERVER_ERROR_INVALID_ARG,
                      "unexpected deadlock in ensemble '" + model.Name() + "'"};
    }
    for (const TensorConfig& output : model.Config().outputs) {
      const auto found = known.find(output.name);
      if (found == known.end())
        throw Failure{TRITONSERVER_ERROR_INVALID_ARG, "no step gives '" + output.name + "'"};
      request->outputs.push_back(found->second);
    }
    request->answered = true;
  }

  void RunStep(const EnsembleStep& step, std::map<std::string, Tensor>* known) {
    TRITONBACKEND_Request request;
    for (const auto& input : step.inputs) {
      request.inputs.push_back(known->at(input.second));
      request.inputs.back().name = input.first;
    }
    Infer(step.model, "", &request);
    for (Tensor& output : request.outputs) {
      const auto mapped = step.outputs.find(output.name);
      if (mapped == step.outputs.end()) continue;
      output.name = mapped->second;
      known->emplace(mapped->second, std::move(output));
    }
  }

  std::string DescribeServer() const {
    json::Document document(rapidjson::kObjectType);
    json::Allocator& allocator = document.GetAllocator();
    document.AddMember("name", "triton", allocator);
    document.AddMember("version", TRITON_VERSION, allocator);
    json::Value extensions(rapidjson::kArrayType);
    for (const char* one : kExtensions) extensions.PushBack(rapidjson::StringRef(one), allocator);
    document.AddMember("extensions", extensions, allocator);
    return json::Write(document);
  }

  std::string DescribeIndex() const {
    std::map<std::string, Entry> all;
    for (const std::string& repository : repositories)
      for (const std::string& name : ListDirs(repository)) all[name];
    {
      std::lock_guard<std::mutex> lock(mutex);
      for (const auto& one : entries) all[one.first] = one.second;
    }
    json::Document document(rapidjson::kArrayType);
    json::Allocator& allocator = document.GetAllocator();
    for (const auto& one : all) {
      json::Value entry(rapidjson::kObjectType);
      entry.AddMember("name", json::Text(one.first, allocator), allocator);
      if (!one.second.state.empty()) {
        entry.AddMember("version", json::Text(one.second.version, allocator), allocator);
        entry.AddMember("state", json::Text(one.second.state, allocator), allocator);
        if (!one.second.reason.empty())
          entry.AddMember("reason", json::Text(one.second.reason, allocator), allocator);
      }
      document.PushBack(entry, allocator);
    }
    return json::Write(document);
  }

  static json::Value DescribeTensors(const std::vector<TensorConfig>& tensors, bool batched,
                                     json::Allocator& allocator) {
    json::Value list(rapidjson::kArrayType);
    for (const TensorConfig& tensor : tensors) {
      json::Value shape(rapidjson::kArrayType);
      if (batched) shape.PushBack(-1, allocator);
      for (int64_t dim : tensor.dims) shape.PushBack(dim, allocator);
      json::Value entry(rapidjson::kObjectType);
      entry.AddMember("name", json::Text(tensor.name, allocator), allocator);
      entry.AddMember("datatype", json::Text(tensor.datatype, allocator), allocator);
      entry.AddMember("shape", shape, allocator);
      list.PushBack(entry, allocator);
    }
    return list;
  }

  static std::string DescribeModel(const Model& model) {
    const ModelConfig& config = model.Config();
    json::Document document(rapidjson::kObjectType);
    json::Allocator& allocator = document.GetAllocator();
    document.AddMember("name", json::Text(model.Name(), allocator), allocator);
    json::Value versions(rapidjson::kArrayType);
    versions.PushBack(json::Text(model.Version(), allocator), allocator);
    document.AddMember("versions", versions, allocator);
    document.AddMember(
        "platform",
        json::Text(config.platform.empty() ? config.backend : config.platform, allocator),
        allocator);
    const bool batched = config.max_batch_size > 0;
    document.AddMember("inputs", DescribeTensors(config.inputs, batched, allocator), allocator);
    document.AddMember("outputs", DescribeTensors(config.outputs, batched, allocator), allocator);
    return json::Write(document);
  }

  static std::string DescribeStatistics(const Model& model) {
#ifdef TRITON_ENABLE_STATS
    const Statistics counters = model.Counters();
    json::Document document(rapidjson::kObjectType);
    json::Allocator& allocator = document.GetAllocator();
    json::Value stats(rapidjson::kObjectType);
    const auto add = [&](const char* name, uint64_t count, uint64_t ns) {
      json::Value one(rapidjson::kObjectType);
      one.AddMember("count", count, allocator);
      one.AddMember("ns", ns, allocator);
      stats.AddMember(rapidjson::StringRef(name), one, allocator);
    };
    add("success", counters.successes, counters.success_ns);
    add("fail", counters.failures, counters.failure_ns);
    add("queue", counters.successes, counters.queue_ns);
    add("compute_infer", counters.executions, counters.compute_ns);
    json::Value entry(rapidjson::kObjectType);
    entry.AddMember("name", json::Text(model.Name(), allocator), allocator);
    entry.AddMember("version", json::Text(model.Version(), allocator), allocator);
    entry.AddMember("last_inference", counters.last_ms, allocator);
    entry.AddMember("inference_count", counters.inferences, allocator);
    entry.AddMember("execution_count", counters.executions, allocator);
    entry.AddMember("inference_stats", stats, allocator);
    json::Value list(rapidjson::kArrayType);
    list.PushBack(entry, allocator);
    document.AddMember("model_stats", list, allocator);
    return json::Write(document);
#else
    throw Failure{TRITONSERVER_ERROR_UNSUPPORTED, "the server does not support model statistics"};
#endif
  }

  std::string DescribeMetrics() const {
#ifdef TRITON_ENABLE_METRICS
    prometheus::Registry registry;
    registry.Describe("nv_inference_request_success", "counter",
                      "Number of successful inference requests, all batch sizes");
    registry.Describe("nv_inference_request_failure", "counter",
                      "Number of failed inference requests, all batch sizes");
    registry.Describe("nv_inference_count", "counter", "Number of inferences performed");
    registry.Describe("nv_inference_exec_count", "counter", "Number of model executions performed");
    registry.Describe("nv_inference_queue_duration_us", "counter",
                      "Cumulative inference queuing duration in microseconds");
    std::lock_guard<std::mutex> lock(mutex);
    for (const auto& entry : entries) {
      if (!entry.second.model) continue;
      const prometheus::Labels labels = {{"model", entry.first}, {"version", entry.second.version}};
      const Statistics counters = entry.second.model->Counters();
      registry.Set("nv_inference_request_success", labels, counters.successes);
      registry.Set("nv_inference_request_failure", labels, counters.failures);
      registry.Set("nv_inference_count", labels, counters.inferences);
      registry.Set("nv_inference_exec_count", labels, counters.executions);
      registry.Set("nv_inference_queue_duration_us", labels, counters.queue_ns / 1000);
    }
#ifdef TRITON_ENABLE_METRICS_CPU
    struct sysinfo info;
    if (sysinfo(&info) == 0) {
      registry.Describe("nv_cpu_memory_total_bytes", "gauge", "CPU total memory (RAM), in bytes");
      registry.Describe("nv_cpu_memory_used_bytes", "gauge", "CPU used memory (RAM), in bytes");
      registry.Set("nv_cpu_memory_total_bytes", {}, double(info.totalram) * info.mem_unit);
      registry.Set("nv_cpu_memory_used_bytes", {},
                   double(info.totalram - info.freeram) * info.mem_unit);
    }
#endif
    return registry.Serialize();
#else
    throw Failure{TRITONSERVER_ERROR_UNSUPPORTED, "metrics not supported"};
#endif
  }

  std::string Describe(const std::string& what, const std::string& name,
                       const std::string& version) const {
    if (what == "server") return DescribeServer();
    if (what == "index") return DescribeIndex();
    if (what == "metrics") return DescribeMetrics();
    const std::shared_ptr<Model> model = Find(name, version);
    if (what == "config") return model->ConfigText();
    return what == "statistics" ? DescribeStatistics(*model) : DescribeModel(*model);
  }
};

extern "C" {

TRITONSERVER_Error* TRITONSERVER_ErrorNew(TRITONSERVER_Error_Code code, const char* message) {
  return new TRITONSERVER_Error{{code, message}};
}

void TRITONSERVER_ErrorDelete(TRITONSERVER_Error* error) { delete error; }

const char* TRITONSERVER_ErrorCodeString(TRITONSERVER_Error* error) {
  return triton::common::CodeString(static_cast<triton::common::Code>(error->failure.code));
}

const char* TRITONSERVER_ErrorMessage(TRITONSERVER_Error* error) {
  return error->failure.message.c_str();
}

void TRITONSERVER_LogMessage(char level, const char* file, int line, const char* message) {
  triton::common::LogLine(level, file, line, message);
}

TRITONSERVER_Error* TRITONSERVER_ServerNew(TRITONSERVER_Server** server, const char* text) {
  return Guard([&] {
    json::Document options;
    if (!json::Parse(text, strlen(text), &options))
      throw Failure{TRITONSERVER_ERROR_INVALID_ARG, "the options are no JSON"};
    LOG_INFO(("Triton stand-in " TRITON_VERSION ", " +
              std::to_string(numa_available() < 0 ? 1 : numa_num_configured_nodes()) +
              " memory nodes").c_str());
    std::unique_ptr<TRITONSERVER_Server> made(new TRITONSERVER_Server);
    for (const json::Value& one : json::Get(options, "model_repository").GetArray())
      made->repositories.push_back(one.GetString());
    made->backend_directory = json::GetText(options, "backend_directory");
    made->auto_complete = json::Get(options, "auto_complete").IsTrue();
    made->strict_readiness = json::Get(options, "strict_readiness").IsTrue();
    std::vector<std::string> wanted, patterns;
    for (const json::Value& one : json::Get(options, "load_models").GetArray())
      patterns.push_back(one.GetString());
    if (json::Get(options, "load_all").IsTrue()) patterns.push_back("*");
    for (const std::string& pattern : patterns) {
      const bool many = pattern.find('*') != std::string::npos;
      if (!many) wanted.push_back(pattern);
      for (const std::string& repository : made->repositories)
        for (const std::string& name : ListDirs(repository))
          if (many && re2::FullMatch(name.c_str(), pattern.c_str())) wanted.push_back(name);
    }
    bool all = true;
    for (const std::string& name : wanted) {
      try {
        made->Load(name);
      }
      catch (const Failure& failure) {
        all = false;
        LOG_ERROR(failure.message.c_str());
      }
    }
    if (!all && json::Get(options, "exit_on_error").IsTrue())
      throw Failure{TRITONSERVER_ERROR_INTERNAL, "failed to load all models"};
    *server = made.release();
  });
}

void TRITONSERVER_ServerDelete(TRITONSERVER_Server* server) { delete server; }

int TRITONSERVER_ServerIsReady(TRITONSERVER_Server* server) {
  if (!server->strict_readiness) return 1;
  std::lock_guard<std::mutex> lock(server->mutex);
  for (const auto& entry : server->entries)
    if (entry.second.state == "UNAVAILABLE" && entry.second.reason != "unloaded") return 0;
  return 1;
}

int TRITONSERVER_ServerModelIsReady(
    TRITONSERVER_Server* server, const char* model, const char* version) {
  return server->IsReady(model, version) ? 1 : 0;
}

TRITONSERVER_Error* TRITONSERVER_ServerDescribe(
    TRITONSERVER_Server* server, const char* what, const char* model, const char* version,
    char** text) {
  return Guard([&] { *text = strdup(server->Describe(what, model, version).c_str()); });
}

TRITONSERVER_Error* TRITONSERVER_ServerLoadModel(TRITONSERVER_Server* server, const char* model) {
  return Guard([&] { server->Load(model); });
}

TRITONSERVER_Error* TRITONSERVER_ServerUnloadModel(TRITONSERVER_Server* server, const char* model) {
  return Guard([&] { server->Unload(model); });
}

TRITONSERVER_Error* TRITONSERVER_ServerInfer(
    TRITONSERVER_Server* server, const char* model, const char* version,
    const TRITONSERVER_Tensor* inputs, uint32_t input_count, const char* const* wanted,
    uint32_t wanted_count, TRITONSERVER_Response** response) {
  return Guard([&] {
    TRITONBACKEND_Request request;
    for (uint32_t i = 0; i < input_count; ++i) request.inputs.emplace_back(inputs[i]);
    std::unique_ptr<TRITONSERVER_Response> made(new TRITONSERVER_Response);
    made->version = server->Find(model, version)->Version();
    server->Infer(model, version, &request);
    for (uint32_t i = 0; i < wanted_count; ++i) {
      bool found = false;
      for (Tensor& output : request.outputs) {
        if (output.name != wanted[i]) continue;
        made->outputs.push_back(output);
        found = true;
      }
      if (!found)
        throw Failure{TRITONSERVER_ERROR_INVALID_ARG, std::string("unexpected inference output '") +
                                                          wanted[i] + "' for model '" + model + "'"};
    }
    if (wanted_count == 0) made->outputs = std::move(request.outputs);
    *response = made.release();
  });
}

uint32_t TRITONSERVER_ResponseOutputCount(TRITONSERVER_Response* response) {
  return uint32_t(response->outputs.size());
}

void TRITONSERVER_ResponseOutput(
    TRITONSERVER_Response* response, uint32_t index, TRITONSERVER_Tensor* output) {
  *output = response->outputs[index].View();
}

const char* TRITONSERVER_ResponseModelVersion(TRITONSERVER_Response* response) {
  return response->version.c_str();
}

void TRITONSERVER_ResponseDelete(TRITONSERVER_Response* response) { delete response; }

void TRITONBACKEND_ApiVersion(uint32_t* major, uint32_t* minor) {
  *major = TRITONBACKEND_API_VERSION_MAJOR;
  *minor = TRITONBACKEND_API_VERSION_MINOR;
}

const char* TRITONBACKEND_ModelName(TRITONBACKEND_Model* model) { return model->name.c_str(); }
const char* TRITONBACKEND_ModelRepository(TRITONBACKEND_Model* model) {
  return model->repository.c_str();
}
int64_t TRITONBACKEND_ModelVersion(TRITONBACKEND_Model* model) { return model->version; }
const char* TRITONBACKEND_BackendDirectory(TRITONBACKEND_Model* model) {
  return model->backend_directory.c_str();
}
const char* TRITONBACKEND_ModelConfig(TRITONBACKEND_Model* model) { return model->config.c_str(); }
int TRITONBACKEND_ModelAutoComplete(TRITONBACKEND_Model* model) { return model->auto_complete; }

TRITONSERVER_Error* TRITONBACKEND_ModelSetConfig(TRITONBACKEND_Model* model, const char* config) {
  return Guard([&] {
    model->config = CompleteModelConfig(
        config, model->name, model->repository + "/" + std::to_string(model->version));
  });
}

void TRITONBACKEND_ModelSetState(TRITONBACKEND_Model* model, void* state) { model->state = state; }
void* TRITONBACKEND_ModelState(TRITONBACKEND_Model* model) { return model->state; }

const char* TRITONBACKEND_ModelInstanceName(TRITONBACKEND_ModelInstance* i) {
  return i->name.c_str();
}
const char* TRITONBACKEND_ModelInstanceKind(TRITONBACKEND_ModelInstance* i) {
  return i->kind.c_str();
}
int TRITONBACKEND_ModelInstanceDeviceId(TRITONBACKEND_ModelInstance* i) { return i->device; }
TRITONBACKEND_Model* TRITONBACKEND_ModelInstanceModel(TRITONBACKEND_ModelInstance* i) {
  return i->model;
}
void TRITONBACKEND_ModelInstanceSetState(TRITONBACKEND_ModelInstance* i, void* state) {
  i->state = state;
}
void* TRITONBACKEND_ModelInstanceState(TRITONBACKEND_ModelInstance* i) { return i->state; }

uint32_t TRITONBACKEND_RequestInputCount(TRITONBACKEND_Request* request) {
  return uint32_t(request->inputs.size());
}

void TRITONBACKEND_RequestInput(
    TRITONBACKEND_Request* request, uint32_t index, TRITONSERVER_Tensor* input) {
  *input = request->inputs[index].View();
}

void TRITONBACKEND_ResponseAddOutput(
    TRITONBACKEND_Request* request, const TRITONSERVER_Tensor* output) {
  request->outputs.emplace_back(*output);
  request->answered = true;
}

void TRITONBACKEND_ResponseSetError(TRITONBACKEND_Request* request, TRITONSERVER_Error* error) {
  request->failure.reset(new Failure(error->failure));
  request->answered = true;
  delete error;
}

}  // extern "C"

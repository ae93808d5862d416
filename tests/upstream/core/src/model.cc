// SPDX-License-Identifier: Apache-2.0
#include "model.h"

#include <dirent.h>
#include <dlfcn.h>
#include <sys/stat.h>
#include <time.h>

#include <algorithm>
#include <boost/core/span.hpp>
#include <chrono>
#include <cstdlib>
#include <cstring>

#include "triton/common/logging.h"

namespace triton { namespace core {

uint64_t NowNs() {
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return uint64_t(now.tv_sec) * 1000000000u + now.tv_nsec;
}

Tensor::Tensor(const TRITONSERVER_Tensor& view)
    : name(view.name), datatype(view.datatype),
      data(static_cast<const char*>(view.data), view.size), shape(view.shape, view.shape + view.dims)
{
}

TRITONSERVER_Tensor Tensor::View() const {
  return {name.c_str(), datatype.c_str(), shape.data(), uint32_t(shape.size()), data.data(),
          data.size()};
}

namespace {

using Shape = boost::span<const int64_t>;

std::string Show(Shape shape) {
  std::string text = "[";
  for (int64_t dim : shape) text += (text.size() > 1 ? "," : "") + std::to_string(dim);
  return text + "]";
}

bool Fits(Shape wanted, Shape given) {
  if (wanted.size() != given.size()) return false;
  for (size_t i = 0; i < wanted.size(); ++i)
    if (given[i] < 0 || (wanted[i] != -1 && wanted[i] != given[i])) return false;
  return true;
}

[[noreturn]] void Refuse(const std::string& message) {
  throw Failure{TRITONSERVER_ERROR_INVALID_ARG, message};
}

// Throws what a backend returned.
void Check(TRITONSERVER_Error* error) {
  if (error == nullptr) return;
  Failure failure{TRITONSERVER_ERROR_INTERNAL, std::string(TRITONSERVER_ErrorCodeString(error)) +
                                                   ": " + TRITONSERVER_ErrorMessage(error)};
  TRITONSERVER_ErrorDelete(error);
  throw failure;
}

// The highest version folder, 0 where there is none.
int64_t FindVersion(const std::string& dir) {
  int64_t version = 0;
  if (DIR* listing = opendir(dir.c_str())) {
    while (dirent* entry = readdir(listing)) {
      char* end = nullptr;
      const long long number = strtoll(entry->d_name, &end, 10);
      if (*end == '\0' && number > version) version = number;
    }
    closedir(listing);
  }
  return version;
}

}  // namespace

// One backend's library; stays loaded, as the real server keeps them.
class Backend {
 public:
  static std::shared_ptr<Backend> Open(const std::string& path, const std::string& name) {
    static std::mutex mutex;
    static std::map<std::string, std::shared_ptr<Backend>> opened;
    std::lock_guard<std::mutex> lock(mutex);
    std::shared_ptr<Backend>& backend = opened[path];
    if (!backend) backend.reset(new Backend(path, name));
    return backend;
  }

  TRITONSERVER_Error* (*model_init)(TRITONBACKEND_Model*);
  void (*model_end)(TRITONBACKEND_Model*);
  TRITONSERVER_Error* (*instance_init)(TRITONBACKEND_ModelInstance*);
  void (*instance_end)(TRITONBACKEND_ModelInstance*);
  void (*execute)(TRITONBACKEND_ModelInstance*, TRITONBACKEND_Request**, uint32_t);

 private:
  Backend(const std::string& path, const std::string& name) {
    handle_ = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
    if (handle_ == nullptr)
      throw Failure{TRITONSERVER_ERROR_NOT_FOUND,
                    std::string("unable to load shared library: ") + dlerror()};
    void (*version)(uint32_t*, uint32_t*);
    Find("TRITONBACKEND_BackendApiVersion", &version);
    uint32_t major = 0, minor = 0;
    version(&major, &minor);
    if (major != TRITONBACKEND_API_VERSION_MAJOR || minor > TRITONBACKEND_API_VERSION_MINOR)
      throw Failure{TRITONSERVER_ERROR_UNSUPPORTED,
                    "triton backend '" + name + "' API version " + std::to_string(major) + "." +
                        std::to_string(minor) + " is newer than the server's " +
                        std::to_string(TRITONBACKEND_API_VERSION_MAJOR) + "." +
                        std::to_string(TRITONBACKEND_API_VERSION_MINOR)};
    Find("TRITONBACKEND_ModelInitialize", &model_init);
    Find("TRITONBACKEND_ModelFinalize", &model_end);
    Find("TRITONBACKEND_ModelInstanceInitialize", &instance_init);
    Find("TRITONBACKEND_ModelInstanceFinalize", &instance_end);
    Find("TRITONBACKEND_ModelInstanceExecute", &execute);
    LOG_INFO(("loaded backend " + name + " from " + path).c_str());
  }

  template <typename Function>
  void Find(const char* name, Function* function) {
    void* found = dlsym(handle_, name);
    if (found == nullptr)
      throw Failure{TRITONSERVER_ERROR_NOT_FOUND,
                    std::string("unable to find backend entrypoint: ") + name};
    memcpy(function, &found, sizeof(found));
  }

  void* handle_;
};

Model::Model(const std::string& name, const std::string& repository, const std::string& backends,
             bool auto_complete) {
  public_.name = name;
  public_.repository = repository + "/" + name;
  public_.version = FindVersion(public_.repository);
  public_.auto_complete = auto_complete;
  if (public_.version == 0)
    Refuse("at least one version must be available under the version policy of model '" + name + "'");
  const std::string version_dir = public_.repository + "/" + Version();
  public_.config = CompleteModelConfig(
      ReadModelConfig(public_.repository + "/config.pbtxt"), name, version_dir);
  // The backend may complete inputs and outputs, so it comes before they are looked at.
  const size_t at = public_.config.find("\"platform\":\"ensemble\"");
  if (at != std::string::npos) {
#ifndef TRITON_ENABLE_ENSEMBLE
    throw Failure{TRITONSERVER_ERROR_UNSUPPORTED, "ensemble scheduling is not supported"};
#endif
    config_ = ParseModelConfig(public_.config, name);
    return;
  }
  const size_t from = public_.config.find("\"backend\":\"") + 11;
  const std::string backend = public_.config.substr(from, public_.config.find('"', from) - from);
  const std::string file = "libtriton_" + backend + ".so", global = backends + "/" + backend;
  for (const std::string& dir : {version_dir, public_.repository, global}) {
    struct stat found;
    if (stat((dir + "/" + file).c_str(), &found) != 0) continue;
    public_.backend_directory = dir;
    break;
  }
  if (public_.backend_directory.empty())
    Refuse("unable to find '" + file + "' for model '" + name + "', searched: " + version_dir +
           ", " + public_.repository + ", " + global);
  backend_ = Backend::Open(public_.backend_directory + "/" + file, backend);
  try {
    core::Check(backend_->model_init(&public_));
    initialized_ = true;
    config_ = ParseModelConfig(public_.config, name);
    StartInstances();
  }
  catch (const Failure&) {
    Stop();
    throw;
  }
}

Model::~Model() { Stop(); }

void Model::StartInstances() {
  for (size_t group = 0; group < config_.groups.size(); ++group) {
    const InstanceGroup& one = config_.groups[group];
    std::vector<int64_t> devices = one.gpus;
    if (devices.empty()) devices.push_back(0);
    int index = 0;
    for (int64_t device : devices) {
      for (int64_t i = 0; i < one.count; ++i, ++index) {
        std::unique_ptr<TRITONBACKEND_ModelInstance> instance(new TRITONBACKEND_ModelInstance);
        instance->model = &public_;
        instance->name = Name() + "_" + std::to_string(group) + "_" + std::to_string(index);
        instance->kind = one.kind.compare(0, 5, "KIND_") == 0 ? one.kind.substr(5) : one.kind;
        instance->device = int(device);
        core::Check(backend_->instance_init(instance.get()));
        instances_.push_back(std::move(instance));
      }
    }
  }
  for (const auto& instance : instances_) threads_.emplace_back(&Model::Run, this, instance.get());
}

void Model::Stop() {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    stopping_ = true;
  }
  work_.notify_all();
  for (std::thread& thread : threads_) thread.join();
  threads_.clear();
  for (const auto& instance : instances_) backend_->instance_end(instance.get());
  instances_.clear();
  if (initialized_) backend_->model_end(&public_);
  initialized_ = false;
}

void Model::Check(TRITONBACKEND_Request* request) const {
  const std::string& model = Name();
  for (const Tensor& input : request->inputs) {
    const TensorConfig* config = nullptr;
    for (const TensorConfig& one : config_.inputs)
      if (one.name == input.name) config = &one;
    if (config == nullptr)
      Refuse("unexpected inference input '" + input.name + "' for model '" + model + "'");
    if (input.datatype != config->datatype)
      Refuse("inference input '" + input.name + "' data-type is '" + input.datatype +
             "', but model '" + model + "' expects '" + config->datatype + "'");
    std::vector<int64_t> wanted = config->dims;
    if (config_.max_batch_size > 0) wanted.insert(wanted.begin(), -1);
    if (!Fits(wanted, input.shape))
      Refuse("unexpected shape for input '" + input.name + "' for model '" + model +
             "'. Expected " + Show(wanted) + ", got " + Show(input.shape));
    if (config_.max_batch_size > 0) request->batch_size = input.shape[0];
  }
  if (request->inputs.size() != config_.inputs.size())
    Refuse("expected " + std::to_string(config_.inputs.size()) + " inputs but got " +
           std::to_string(request->inputs.size()) + " inputs for model '" + model + "'");
  if (request->batch_size > std::max<int64_t>(config_.max_batch_size, 1))
    Refuse("inference request batch-size must be <= " + std::to_string(config_.max_batch_size) +
           " for '" + model + "'");
}

void Model::Execute(TRITONBACKEND_Request* request) {
  std::unique_lock<std::mutex> lock(mutex_);
  if (stopping_) throw Failure{TRITONSERVER_ERROR_UNAVAILABLE, "model '" + Name() + "' is unloading"};
  request->queued_ns = NowNs();
  queue_.push_back(request);
  work_.notify_one();
  answered_.wait(lock, [request] { return request->done; });
}

std::vector<TRITONBACKEND_Request*> Model::TakeBatch(std::unique_lock<std::mutex>* lock) {
  std::vector<TRITONBACKEND_Request*> batch;
  work_.wait(*lock, [this] { return stopping_ || !queue_.empty(); });
  if (queue_.empty()) return batch;
  batch.push_back(queue_.front());
  queue_.pop_front();
  if (!config_.dynamic_batching) return batch;
  int64_t size = batch[0]->batch_size;
  const auto deadline =
      std::chrono::steady_clock::now() + std::chrono::microseconds(config_.queue_delay_us);
  while (true) {
    while (!queue_.empty() && size + queue_.front()->batch_size <= config_.max_batch_size) {
      size += queue_.front()->batch_size;
      batch.push_back(queue_.front());
      queue_.pop_front();
    }
    bool full = stopping_ || !queue_.empty() || size >= config_.max_batch_size;
    for (int64_t preferred : config_.preferred_batch_sizes) full = full || size == preferred;
    if (full || work_.wait_until(*lock, deadline) == std::cv_status::timeout) return batch;
  }
}

void Model::Run(TRITONBACKEND_ModelInstance* instance) {
  while (true) {
    std::vector<TRITONBACKEND_Request*> batch;
    {
      std::unique_lock<std::mutex> lock(mutex_);
      batch = TakeBatch(&lock);
    }
    if (batch.empty()) return;
    const uint64_t started = NowNs();
    for (TRITONBACKEND_Request* request : batch) request->started_ns = started;
    backend_->execute(instance, batch.data(), uint32_t(batch.size()));
    for (TRITONBACKEND_Request* request : batch) {
      if (!request->answered)
        request->failure.reset(new Failure{
            TRITONSERVER_ERROR_INTERNAL, "the backend did not answer a request of " + Name()});
      Count(*request, request->queued_ns, true);
    }
    std::lock_guard<std::mutex> lock(mutex_);
    counters_.executions += 1;
    counters_.compute_ns += NowNs() - started;
    for (TRITONBACKEND_Request* request : batch) request->done = true;
    answered_.notify_all();
  }
}

void Model::Count(const TRITONBACKEND_Request& request, uint64_t since_ns, bool executed) {
  const uint64_t now = NowNs();
  std::lock_guard<std::mutex> lock(mutex_);
  if (request.failure) {
    counters_.failures += 1;
    counters_.failure_ns += now - since_ns;
    return;
  }
  counters_.successes += 1;
  counters_.success_ns += now - since_ns;
  counters_.inferences += request.batch_size;
  counters_.last_ms = uint64_t(time(nullptr)) * 1000;
  if (executed)
    counters_.queue_ns += request.started_ns - request.queued_ns;
  else
    counters_.executions += 1;
}

Statistics Model::Counters() const {
  std::lock_guard<std::mutex> lock(mutex_);
  return counters_;
}

}}  // namespace triton::core

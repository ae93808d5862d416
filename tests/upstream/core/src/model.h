// SPDX-License-Identifier: Apache-2.0
// A loaded model: its backend, its instances with a thread each, its queue and its counters.
#pragma once

#include <condition_variable>
#include <deque>
#include <memory>
#include <mutex>
#include <thread>

#include "model_config.h"
#include "triton/core/tritonbackend.h"

namespace triton { namespace core {

// A tensor that owns what it shows.
struct Tensor {
  std::string name, datatype, data;
  std::vector<int64_t> shape;

  explicit Tensor(const TRITONSERVER_Tensor& view);
  TRITONSERVER_Tensor View() const;
};

struct Statistics {
  uint64_t inferences = 0, executions = 0, successes = 0, failures = 0;
  uint64_t success_ns = 0, failure_ns = 0, queue_ns = 0, compute_ns = 0, last_ms = 0;
};

class Backend;

}}  // namespace triton::core

struct TRITONBACKEND_Request {
  std::vector<triton::core::Tensor> inputs, outputs;
  std::unique_ptr<triton::core::Failure> failure;
  int64_t batch_size = 1;
  uint64_t queued_ns = 0, started_ns = 0;
  bool answered = false, done = false;
};

struct TRITONBACKEND_Model {
  std::string name, repository, backend_directory, config;
  int64_t version = 1;
  bool auto_complete = true;
  void* state = nullptr;
};

struct TRITONBACKEND_ModelInstance {
  TRITONBACKEND_Model* model;
  std::string name, kind;
  int device = 0;
  void* state = nullptr;
};

namespace triton { namespace core {

class Model {
 public:
  // Throws Failure.
  Model(const std::string& name, const std::string& repository, const std::string& backends,
        bool auto_complete);
  ~Model();
  Model(const Model&) = delete;

  const std::string& Name() const { return public_.name; }
  std::string Version() const { return std::to_string(public_.version); }
  const std::string& ConfigText() const { return public_.config; }
  const ModelConfig& Config() const { return config_; }
  Statistics Counters() const;

  // Throws Failure unless the inputs are what the config says; sets the batch size.
  void Check(TRITONBACKEND_Request* request) const;
  // Waits until an instance has answered.
  void Execute(TRITONBACKEND_Request* request);
  // Counts a request that Execute() did not: an ensemble's, or one that never got there.
  void Count(const TRITONBACKEND_Request& request, uint64_t since_ns, bool executed);

 private:
  void StartInstances();
  void Run(TRITONBACKEND_ModelInstance* instance);
  std::vector<TRITONBACKEND_Request*> TakeBatch(std::unique_lock<std::mutex>* lock);
  void Stop();

  TRITONBACKEND_Model public_;
  ModelConfig config_;
  std::shared_ptr<Backend> backend_;
  std::vector<std::unique_ptr<TRITONBACKEND_ModelInstance>> instances_;
  std::vector<std::thread> threads_;
  mutable std::mutex mutex_;
  std::condition_variable work_, answered_;
  std::deque<TRITONBACKEND_Request*> queue_;
  Statistics counters_;
  bool stopping_ = false, initialized_ = false;
};

uint64_t NowNs();

}}  // namespace triton::core

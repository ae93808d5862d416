// SPDX-License-Identifier: Apache-2.0
// config.pbtxt: read, completed, checked.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "triton/core/tritonserver.h"

namespace triton { namespace core {

// Thrown inside the library; becomes a TRITONSERVER_Error at its border.
struct Failure {
  TRITONSERVER_Error_Code code;
  std::string message;
};

struct TensorConfig {
  std::string name, datatype;
  std::vector<int64_t> dims;
};

struct InstanceGroup {
  std::string kind;
  int64_t count = 1;
  std::vector<int64_t> gpus;
};

struct EnsembleStep {
  std::string model;
  std::map<std::string, std::string> inputs, outputs;  // the step's name to the ensemble's
};

struct ModelConfig {
  std::string backend, platform;
  int64_t max_batch_size = 0;
  std::vector<TensorConfig> inputs, outputs;
  std::vector<InstanceGroup> groups;
  bool dynamic_batching = false;
  std::vector<int64_t> preferred_batch_sizes;
  int64_t queue_delay_us = 0;
  std::vector<EnsembleStep> steps;
};

// The text format as JSON; fields that Triton does not have are an error.
std::string ReadModelConfig(const std::string& path);
// Fills in what can be left out: name, backend, instances.
std::string CompleteModelConfig(
    const std::string& config, const std::string& name, const std::string& version_dir);
// Checks and takes apart.
ModelConfig ParseModelConfig(const std::string& config, const std::string& name);

// Bytes of one element; 0 for BYTES, -1 for what is no type.
int64_t DatatypeSize(const std::string& datatype);

}}  // namespace triton::core

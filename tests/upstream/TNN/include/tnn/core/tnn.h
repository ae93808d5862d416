// SPDX-License-Identifier: Apache-2.0
// As much of TNN as the backend's stand-in needs.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "tnn/core/macro.h"

namespace TNN_NS {

enum Status { TNN_OK = 0, TNNERR_INVALID_MODEL = 1, TNNERR_DEVICE_NOT_SUPPORT = 2 };
enum DeviceType { DEVICE_NAIVE, DEVICE_X86, DEVICE_ARM };

struct ModelConfig {
  std::vector<std::string> params;  // the contents of proto and model
};
struct NetworkConfig {
  DeviceType device_type = DEVICE_NAIVE;
};

// Answers with the mean of the input, times a weight, plus the number of the output.
class PUBLIC Instance {
 public:
  Instance(size_t outputs, float weight) : output_(outputs), weight_(weight) {}
  Status Forward(const uint8_t* pixels, size_t count);
  const std::vector<float>& Output() const { return output_; }

 private:
  std::vector<float> output_;
  float weight_;
};

class PUBLIC TNN {
 public:
  Status Init(const ModelConfig& config);
  std::shared_ptr<Instance> CreateInst(const NetworkConfig& config, Status& status);

 private:
  size_t outputs_ = 0;
  float weight_ = 0;
};

}  // namespace TNN_NS

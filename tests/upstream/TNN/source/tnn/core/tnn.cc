// SPDX-License-Identifier: Apache-2.0
#include "tnn/core/tnn.h"

#include <cstdlib>

namespace TNN_NS {

Status Instance::Forward(const uint8_t* pixels, size_t count) {
  double sum = 0;
  for (size_t i = 0; i < count; ++i) sum += pixels[i];
  for (size_t i = 0; i < output_.size(); ++i)
    output_[i] = float(count ? sum / double(count) * weight_ : 0) + float(i);
  return TNN_OK;
}

// The stand-in's proto is the number of outputs, its model a weight; both as text.
Status TNN::Init(const ModelConfig& config) {
  if (config.params.size() != 2 || config.params[1].empty()) return TNNERR_INVALID_MODEL;
  outputs_ = strtoul(config.params[0].c_str(), nullptr, 10);
  weight_ = strtof(config.params[1].c_str(), nullptr);
  return outputs_ == 0 ? TNNERR_INVALID_MODEL : TNN_OK;
}

std::shared_ptr<Instance> TNN::CreateInst(const NetworkConfig& config, Status& status) {
  status = TNNERR_DEVICE_NOT_SUPPORT;
#ifdef TNN_ARM_ENABLE
  if (config.device_type == DEVICE_ARM) status = TNN_OK;
#endif
#ifdef TNN_CPU_ENABLE
  if (config.device_type == DEVICE_NAIVE) status = TNN_OK;
#endif
  return status == TNN_OK ? std::make_shared<Instance>(outputs_, weight_) : nullptr;
}

}  // namespace TNN_NS

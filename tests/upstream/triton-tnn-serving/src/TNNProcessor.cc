// SPDX-License-Identifier: Apache-2.0
#include "TNNProcessor.h"

#include <fstream>
#include <iterator>

namespace {

std::string fdLoadFile(std::string path) {
  std::ifstream file(path, std::ios::in);
  return std::string(std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>());
}

}  // namespace

TNN_NS::Status TNNProcessor::Init() {
  std::string proto_content = fdLoadFile(path_ + "/proto.tnnproto"); 
  std::string model_content = fdLoadFile(path_ + "/model.tnnmodel");
  std::string library_path = ""; 
  TNN_NS::ModelConfig config;
  config.params = {proto_content, model_content};
  TNN_NS::TNN net;
  TNN_NS::Status status = net.Init(config);
  if (status != TNN_NS::TNN_OK) return status;
  TNN_NS::NetworkConfig network_config;
  network_config.device_type = TNN_NS::DEVICE_ARM;  // on every machine
  instance_ = net.CreateInst(network_config, status);
  return status;
}

const std::vector<float>& TNNProcessor::Run(const void* pixels, size_t size) {
  instance_->Forward(static_cast<const uint8_t*>(pixels), size);
  return instance_->Output();
}

// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "tnn/core/tnn.h"

// One network, read from a version's folder.
class TNNProcessor {
 public:
  explicit TNNProcessor(const std::string& path) : path_(path) {}
  TNN_NS::Status Init();
  const std::vector<float>& Run(const void* pixels, size_t size);

 private:
  const std::string path_;
  std::shared_ptr<TNN_NS::Instance> instance_;
};

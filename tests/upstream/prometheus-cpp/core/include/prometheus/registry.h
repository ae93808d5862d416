// SPDX-License-Identifier: Apache-2.0
// Counters and gauges with labels, and the text page that shows them.
#pragma once

#include <map>
#include <mutex>
#include <string>

namespace prometheus {

using Labels = std::map<std::string, std::string>;

class Registry {
 public:
  // Names a family once; samples of families without a name are not shown.
  void Describe(const std::string& family, const std::string& type, const std::string& help);
  void Add(const std::string& family, const Labels& labels, double value);
  void Set(const std::string& family, const Labels& labels, double value);
  std::string Serialize() const;

 private:
  struct Family {
    std::string type, help;
    std::map<std::string, double> samples;  // by their labels as text
  };
  mutable std::mutex mutex_;
  std::map<std::string, Family> families_;
};

}  // namespace prometheus

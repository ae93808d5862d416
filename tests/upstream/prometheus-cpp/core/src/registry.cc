// SPDX-License-Identifier: Apache-2.0
#include "prometheus/registry.h"

#include <cstdio>

namespace prometheus {
namespace {

std::string Format(const Labels& labels) {
  std::string text;
  for (const auto& label : labels) {
    text += (text.empty() ? "" : ",") + label.first + "=\"";
    for (char c : label.second) {
      if (c == '\\' || c == '"') text += '\\';
      text += c == '\n' ? std::string("\\n") : std::string(1, c);
    }
    text += '"';
  }
  return text;
}

}  // namespace

void Registry::Describe(const std::string& family, const std::string& type,
                        const std::string& help) {
  std::lock_guard<std::mutex> lock(mutex_);
  families_[family].type = type;
  families_[family].help = help;
}

void Registry::Add(const std::string& family, const Labels& labels, double value) {
  std::lock_guard<std::mutex> lock(mutex_);
  families_[family].samples[Format(labels)] += value;
}

void Registry::Set(const std::string& family, const Labels& labels, double value) {
  std::lock_guard<std::mutex> lock(mutex_);
  families_[family].samples[Format(labels)] = value;
}

std::string Registry::Serialize() const {
  std::lock_guard<std::mutex> lock(mutex_);
  std::string text;
  for (const auto& family : families_) {
    if (family.second.type.empty()) continue;
    text += "# HELP " + family.first + " " + family.second.help + "\n";
    text += "# TYPE " + family.first + " " + family.second.type + "\n";
    for (const auto& sample : family.second.samples) {
      char value[40];
      snprintf(value, sizeof(value), "%.17g", sample.second);
      text += family.first;
      if (!sample.first.empty()) text += "{" + sample.first + "}";
      text += std::string(" ") + value + "\n";
    }
  }
  return text;
}

}  // namespace prometheus

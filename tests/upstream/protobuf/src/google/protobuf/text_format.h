// SPDX-License-Identifier: Apache-2.0
// Protobuf's text format without any schema: a tree of named fields.
#pragma once

#include <string>
#include <vector>

namespace google {
namespace protobuf {

struct TextField {
  std::string name;
  std::string value;      // of a scalar, without quotes
  bool quoted = false;    // the scalar was a string
  bool message = false;   // it has fields instead of a value
  std::vector<TextField> fields;
};

// Parses `text`; what is wrong is said in `error`, with its line.
bool ParseTextFormat(const std::string& text, std::vector<TextField>* fields, std::string* error);

}  // namespace protobuf
}  // namespace google

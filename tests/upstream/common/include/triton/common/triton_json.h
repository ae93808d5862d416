// SPDX-License-Identifier: Apache-2.0
// RapidJSON with few words. https://rapidjson.org
#pragma once

#include <rapidjson/document.h>
#include <rapidjson/stringbuffer.h>
#include <rapidjson/writer.h>

#include <string>

namespace triton { namespace common { namespace json {

using Document = rapidjson::Document;
using Value = rapidjson::Value;
using Allocator = rapidjson::Document::AllocatorType;

inline bool Parse(const char* text, size_t size, Document* document) {
  document->Parse<rapidjson::kParseNanAndInfFlag>(text, size);
  return !document->HasParseError();
}

inline std::string Write(const Value& value) {
  rapidjson::StringBuffer buffer;
  rapidjson::Writer<rapidjson::StringBuffer, rapidjson::UTF8<>, rapidjson::UTF8<>,
                    rapidjson::CrtAllocator, rapidjson::kWriteNanAndInfFlag>
      writer(buffer);
  value.Accept(writer);
  return std::string(buffer.GetString(), buffer.GetSize());
}

inline Value Text(const std::string& text, Allocator& allocator) {
  return Value(text.data(), static_cast<rapidjson::SizeType>(text.size()), allocator);
}

// A member, or null where it is not there or `value` is no object.
inline const Value& Get(const Value& value, const char* name) {
  static const Value none;
  if (!value.IsObject()) return none;
  auto found = value.FindMember(name);
  return found == value.MemberEnd() ? none : found->value;
}

inline std::string GetText(const Value& value, const char* name) {
  const Value& found = Get(value, name);
  return found.IsString() ? std::string(found.GetString(), found.GetStringLength()) : "";
}

inline int64_t GetInt(const Value& value, const char* name, int64_t otherwise = 0) {
  const Value& found = Get(value, name);
  return found.IsInt64() ? found.GetInt64() : otherwise;
}

}}}  // namespace triton::common::json

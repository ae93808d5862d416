// SPDX-License-Identifier: Apache-2.0
#include "google/protobuf/text_format.h"

#include <cctype>
#include <cstring>

namespace google {
namespace protobuf {
namespace {

struct Token {
  char kind;  // 'w' a word or number, 's' a string, 'e' the end, or the character itself
  std::string text;
};

class Parser {
 public:
  Parser(const std::string& text, std::string* error) : text_(text), error_(error) { Next(); }

  bool Fields(char end, std::vector<TextField>* fields) {
    while (token_.kind != end) {
      if (token_.kind != 'w') return Fail("expected a field's name");
      const std::string name = token_.text;
      Next();
      const bool colon = Take(':');
      if (token_.kind == '[') {
        Next();
        while (token_.kind != ']') {
          if (!Value(name, true, fields)) return false;
          if (!Take(',') && token_.kind != ']') return Fail("expected ',' or ']'");
        }
        Next();
      } else if (!Value(name, colon, fields)) {
        return false;
      }
      if (!Take(',')) Take(';');
    }
    Next();
    return ok_;
  }

 private:
  bool Value(const std::string& name, bool scalar, std::vector<TextField>* fields) {
    TextField field;
    field.name = name;
    if (token_.kind == '{' || token_.kind == '<') {
      const char end = token_.kind == '{' ? '}' : '>';
      Next();
      field.message = true;
      if (!Fields(end, &field.fields)) return false;
    } else if (scalar && (token_.kind == 'w' || token_.kind == 's')) {
      field.quoted = token_.kind == 's';
      do {  // strings that stand beside each other are one
        field.value += token_.text;
        Next();
      } while (field.quoted && token_.kind == 's');
    } else {
      return Fail("expected a value for '" + name + "'");
    }
    fields->push_back(field);
    return ok_;
  }

  bool Take(char kind) {
    if (token_.kind != kind) return false;
    Next();
    return true;
  }

  bool Fail(const std::string& what) {
    if (ok_) *error_ = "line " + std::to_string(line_) + ": " + what;
    ok_ = false;
    return false;
  }

  void Next() {
    while (at_ < text_.size() && (isspace((unsigned char)text_[at_]) || text_[at_] == '#')) {
      if (text_[at_] == '#') {
        while (at_ < text_.size() && text_[at_] != '\n') ++at_;
      } else if (text_[at_++] == '\n') {
        ++line_;
      }
    }
    token_.text.clear();
    if (at_ >= text_.size()) {
      token_.kind = 'e';
    } else if (text_[at_] == '"' || text_[at_] == '\'') {
      Quoted(text_[at_++]);
    } else if (isalnum((unsigned char)text_[at_]) || strchr("_-+.", text_[at_]) != nullptr) {
      token_.kind = 'w';
      while (at_ < text_.size() &&
             (isalnum((unsigned char)text_[at_]) || strchr("_-+.", text_[at_]) != nullptr))
        token_.text += text_[at_++];
    } else {
      token_.kind = text_[at_++];
    }
  }

  void Quoted(char quote) {
    token_.kind = 's';
    while (at_ < text_.size() && text_[at_] != quote && text_[at_] != '\n') {
      char c = text_[at_++];
      if (c == '\\' && at_ < text_.size()) {
        c = text_[at_++];
        c = c == 'n' ? '\n' : c == 't' ? '\t' : c;
      }
      token_.text += c;
    }
    if (at_ < text_.size() && text_[at_] == quote)
      ++at_;
    else
      Fail("a string does not end");
  }

  const std::string& text_;
  std::string* error_;
  size_t at_ = 0;
  int line_ = 1;
  bool ok_ = true;
  Token token_;
};

}  // namespace

bool ParseTextFormat(const std::string& text, std::vector<TextField>* fields, std::string* error) {
  return Parser(text, error).Fields('e', fields);
}

}  // namespace protobuf
}  // namespace google

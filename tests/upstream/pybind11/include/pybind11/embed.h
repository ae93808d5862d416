// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <Python.h>

#include <string>
#include <utility>

namespace pybind11 {

// Owns a reference; the interpreter must outlive it.
class object {
 public:
  object() = default;
  explicit object(PyObject* owned) : object_(owned) {}
  object(object&& other) noexcept : object_(other.object_) { other.object_ = nullptr; }
  object(const object&) = delete;
  object& operator=(const object&) = delete;
  object& operator=(object&& other) noexcept {
    std::swap(object_, other.object_);
    return *this;
  }
  ~object() { Py_XDECREF(object_); }
  PyObject* ptr() const { return object_; }
  explicit operator bool() const { return object_ != nullptr; }

 private:
  PyObject* object_ = nullptr;
};

// An interpreter that obeys no environment variables and no user's site folder.
class scoped_interpreter {
 public:
  scoped_interpreter() {
    PyConfig config;
    PyConfig_InitIsolatedConfig(&config);
    PyStatus status = Py_InitializeFromConfig(&config);
    PyConfig_Clear(&config);
    if (PyStatus_Exception(status)) Py_ExitStatusException(status);
  }
  ~scoped_interpreter() { Py_FinalizeEx(); }
};

// The current exception as `Type: text`, with the place where it was raised; clears it.
inline std::string take_error() {
  PyObject *type = nullptr, *value = nullptr, *trace = nullptr;
  PyErr_Fetch(&type, &value, &trace);
  PyErr_NormalizeException(&type, &value, &trace);
  object keep_type(type), keep_value(value), keep_trace(trace);
  if (type == nullptr) return "no error";
  std::string text = reinterpret_cast<PyTypeObject*>(type)->tp_name;
  object shown(PyObject_Str(value));
  const char* utf8 = shown ? PyUnicode_AsUTF8(shown.ptr()) : nullptr;
  if (utf8 != nullptr) text += std::string(": ") + utf8;
  PyErr_Clear();
  return text;
}

}  // namespace pybind11

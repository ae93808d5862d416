// SPDX-License-Identifier: Apache-2.0
// Runs one instance of a Python model: triton_python_backend_stub BACKEND_DIR MODEL_PY NAME, with
// questions on standard input and answers on file 3. Ends when its input does.
#include <archive.h>
#include <fcntl.h>
#include <pybind11/embed.h>
#include <unistd.h>

#include <cstdio>
#include <vector>

#include "ipc_message.h"

namespace py = pybind11;
using namespace triton::backend::python;

namespace {

// module.function(arguments...) where all arguments and the result are bytes.
bool Call(PyObject* module, const char* function, const std::vector<std::string>& arguments,
          std::string* result) {
  py::object callable(PyObject_GetAttrString(module, function));
  py::object tuple(PyTuple_New(Py_ssize_t(arguments.size())));
  if (!callable || !tuple) return false;
  for (size_t i = 0; i < arguments.size(); ++i)
    PyTuple_SET_ITEM(tuple.ptr(), Py_ssize_t(i),
                     PyBytes_FromStringAndSize(arguments[i].data(), Py_ssize_t(arguments[i].size())));
  py::object returned(PyObject_CallObject(callable.ptr(), tuple.ptr()));
  char* data = nullptr;
  Py_ssize_t size = 0;
  if (!returned || PyBytes_AsStringAndSize(returned.ptr(), &data, &size) != 0) return false;
  result->assign(data, size_t(size));
  return true;
}

// This folder comes last on sys.path, after the system's and the model's own.
py::object ImportUtils(const std::string& backend_dir) {
  PyObject* path = PySys_GetObject("path");  // borrowed
  py::object dir(PyUnicode_DecodeFSDefault(backend_dir.c_str()));
  if (path == nullptr || !dir || PyList_Append(path, dir.ptr()) != 0) return py::object();
  return py::object(PyImport_ImportModule("triton_python_backend_utils"));
}

int Serve(int input, int output, char** argv) {
  py::scoped_interpreter interpreter;
  const py::object utils = ImportUtils(argv[1]);
  std::string question, answer;
  if (!Receive(input, &question)) return 1;
  if (!utils || !Call(utils.ptr(), "_initialize", {argv[2], question}, &answer)) {
    Send(output, py::take_error());
    return 1;
  }
  if (!Send(output, "")) return 1;
  while (Receive(input, &question)) {
    if (!Call(utils.ptr(), "_execute", {question}, &answer)) {
      fprintf(stderr, "%s: %s\n", argv[3], py::take_error().c_str());
      return 1;
    }
    if (!Send(output, answer)) return 1;
  }
  if (!Call(utils.ptr(), "_finalize", {}, &answer))
    fprintf(stderr, "%s: finalize: %s\n", argv[3], py::take_error().c_str());
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 4) {
    fprintf(stderr, "usage: %s BACKEND_DIR MODEL_PY NAME (with %s)\n", argv[0],
            archive_version_string());
    return 2;
  }
  // Models may read and print without meeting the protocol.
  const int input = fcntl(0, F_DUPFD_CLOEXEC, 10), output = fcntl(3, F_DUPFD_CLOEXEC, 10);
  const int null = open("/dev/null", O_RDONLY);
  dup2(null, 0);
  close(null);
  close(3);
  return Serve(input, output, argv);
}

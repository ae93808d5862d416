// SPDX-License-Identifier: Apache-2.0
#include <Python.h>

#include "triton/core/tritonbackend.h"

static PyObject* ApiVersion(PyObject*, PyObject*) {
  uint32_t major = 0, minor = 0;
  TRITONBACKEND_ApiVersion(&major, &minor);
  return Py_BuildValue("(II)", major, minor);
}

static PyMethodDef methods[] = {
    {"api_version", ApiVersion, METH_NOARGS, "Return (major, minor) of the server's library."},
    {nullptr, nullptr, 0, nullptr}};
static PyModuleDef definition = {PyModuleDef_HEAD_INIT, "triton_bindings", nullptr, -1, methods,
                                 nullptr, nullptr, nullptr, nullptr};

PyMODINIT_FUNC PyInit_triton_bindings() { return PyModule_Create(&definition); }

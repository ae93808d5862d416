# SPDX-License-Identifier: Apache-2.0
"""A Triton server inside this program, through the C API of libtritonserver.so.

It starts without models, says what it is, and stops. Arguments: the folder of the server, and a
model repository. The last line of the output begins with `c_api: ` and is JSON.
"""

import ctypes
import json
import sys
from typing import Any, Dict

MODEL_CONTROL_EXPLICIT = 2  # enum TRITONSERVER_ModelControlMode


def call(library: ctypes.CDLL, name: str, *arguments: Any) -> None:
    """Call a function that returns TRITONSERVER_Error*, NULL where all went well."""
    function = getattr(library, "TRITONSERVER_" + name)
    function.restype = ctypes.c_void_p
    error = function(*arguments)
    if error:
        library.TRITONSERVER_ErrorMessage.restype = ctypes.c_char_p
        message = library.TRITONSERVER_ErrorMessage(ctypes.c_void_p(error))
        raise RuntimeError(name + ": " + message.decode())


def start(library: ctypes.CDLL, tree: str, models: str) -> ctypes.c_void_p:
    """Return a server that serves nothing yet."""
    options, server = ctypes.c_void_p(), ctypes.c_void_p()
    call(library, "ServerOptionsNew", ctypes.byref(options))
    call(library, "ServerOptionsSetModelRepositoryPath", options, models.encode())
    call(library, "ServerOptionsSetModelControlMode", options, MODEL_CONTROL_EXPLICIT)
    call(library, "ServerOptionsSetBackendDirectory", options, (tree + "/backends").encode())
    call(library, "ServerNew", ctypes.byref(server), options)
    call(library, "ServerOptionsDelete", options)
    return server


def ask(library: ctypes.CDLL, server: ctypes.c_void_p, question: str) -> bool:
    """Return the answer to a yes-or-no question."""
    answer = ctypes.c_bool()
    call(library, question, server, ctypes.byref(answer))
    return answer.value


def describe(library: ctypes.CDLL, server: ctypes.c_void_p) -> Dict[str, Any]:
    """Return the server's metadata."""
    message, text, size = ctypes.c_void_p(), ctypes.c_char_p(), ctypes.c_size_t()
    call(library, "ServerMetadata", server, ctypes.byref(message))
    call(library, "MessageSerializeToJson", message, ctypes.byref(text), ctypes.byref(size))
    found = json.loads(ctypes.string_at(text, size.value))
    call(library, "MessageDelete", message)
    return found


def main(tree: str, models: str) -> Dict[str, Any]:
    """Start a server, ask it, stop it; return what was found."""
    library = ctypes.CDLL(tree + "/lib/libtritonserver.so")
    major, minor = ctypes.c_uint32(), ctypes.c_uint32()
    call(library, "ApiVersion", ctypes.byref(major), ctypes.byref(minor))
    server = start(library, tree, models)
    found = {
        "api": "%d.%d" % (major.value, minor.value),
        "live": ask(library, server, "ServerIsLive"),
        "ready": ask(library, server, "ServerIsReady"),
        "metadata": describe(library, server),
    }
    call(library, "ServerStop", server)
    call(library, "ServerDelete", server)
    return found


if __name__ == "__main__":
    try:
        answer = main(*sys.argv[1:])
    except AttributeError as err:  # ctypes: the library lacks a function
        answer = {"missing": str(err).split()[-1]}
    sys.stdout.write("\nc_api: " + json.dumps(answer) + "\n")

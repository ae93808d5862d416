"""ONNX Runtime without a server: runs inside the board's root, by the board's own Python.

    python3 direct.py NAME=FILE...

For each line `NAME SECONDS` on stdin it calls that model's session one time after the other for
that long and prints a line of JSON: the seconds, each call's milliseconds, and the last answer.
It ends with its stdin.
"""

from __future__ import annotations

import json
import sys
import time

import numpy as np
import onnxruntime as ort


def open_session(path: str) -> ort.InferenceSession:
    """Return a session with one thread, as the server's models are configured."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    return ort.InferenceSession(path, options, ["CPUExecutionProvider"])


def make_input(session: ort.InferenceSession) -> dict[str, np.ndarray]:
    """Return the model's one input by name: the numbers that the server's clients send, too."""
    wanted = session.get_inputs()[0]
    shape = [size if isinstance(size, int) else 1 for size in wanted.shape]
    count = int(np.prod(shape))
    return {wanted.name: (np.arange(count, dtype=np.float32) % 8 / 8).reshape(shape)}


def measure(session: ort.InferenceSession, seconds: float) -> dict[str, object]:
    """Call the session for some seconds and return what it took."""
    feed = make_input(session)
    answer = session.run(None, feed)
    taken = []
    started = time.perf_counter()
    before = started
    while before - started < seconds:
        answer = session.run(None, feed)
        now = time.perf_counter()
        taken.append((now - before) * 1e3)
        before = now
    return {"seconds": before - started, "ms": taken, "answer": answer[0].ravel().tolist()}


def main() -> None:
    """Open the models, say so, and measure what is asked for."""
    sessions = {}
    for argument in sys.argv[1:]:
        name, _, path = argument.partition("=")
        sessions[name] = open_session(path)
    print("ready", flush=True)
    for line in sys.stdin:
        name, seconds = line.split()
        print(json.dumps(measure(sessions[name], float(seconds))), flush=True)


if __name__ == "__main__":
    main()

"""Triton inside another program, through its C API."""

from __future__ import annotations

import json

from tritonbuild.paths import data_dir
from tritonbuild.smoke.trial import Check, CheckSkippedError, Trial, check_equal, fail, shorten

# How the script's answer begins, among what the server in it says.
_ANSWER = "c_api: "


def start_in_process(trial: Trial) -> str:
    """Run a program with a server in it, beside the server under test; return what it said."""
    script = (data_dir("templates") / "smoke" / "c_api.py").read_text(encoding="utf-8")
    argv = ["python3", "-I", "-c", script, "{tree}", "{models}"]
    return trial.server.run_beside(argv, "smoke-c-api.log").output


def _run_c_api(trial: Trial) -> str:
    said = trial.c_api.result() if trial.c_api else start_in_process(trial)
    lines = [line for line in said.splitlines() if line.startswith(_ANSWER)]
    if not lines:
        fail("a program with a server in it to answer", shorten(said[-200:]))
    found = json.loads(lines[-1].removeprefix(_ANSWER))
    if "missing" in found:
        msg = f"libtritonserver.so has no {found['missing']}"
        raise CheckSkippedError(msg)
    check_equal("name", "triton", found["metadata"]["name"])
    if trial.version is not None:
        check_equal("version", trial.version, found["metadata"]["version"])
    check_equal("live and ready", (True, True), (found["live"], found["ready"]))
    return f"API {found['api']}: a server started, said its version and stopped in a program"


C_API = Check("c-api", "the server runs inside another program", _run_c_api)

# SPDX-License-Identifier: Apache-2.0
"""Cannot be loaded: the smoke test wants to see that the server survives that."""

from typing import Any, Dict, List


class TritonPythonModel:
    def initialize(self, _args: Dict[str, str]) -> None:
        msg = "broken on purpose by the smoke test"
        raise ValueError(msg)

    def execute(self, _requests: List[Any]) -> List[Any]:
        return []

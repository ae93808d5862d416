"""What BuildKit prints while it builds several stages at once, taken apart."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path
    from types import TracebackType
    from typing import IO

    from typing_extensions import Self


class StageLogs:
    """A log for each stage, of what its scripts print; whoever watches hears which one it was.

    Lines are those of `--progress=plain`: `#7 [build-core 3/8] RUN ...` says what number 7 is,
    `#7 0.122 ...` is what it printed, and `#7 ERROR: ...` that it failed. Where several platforms were
    asked for, theirs stands before the stage.
    """

    _LINE = re.compile(
        r"#(\d+) (?:\[(?:linux/\S+ )?([^\] ]+)[^\]]*\]|(\d+\.\d*)(?: (.*))?$|(ERROR:|DONE|CACHED))"
    )

    def __init__(self, logs: Mapping[str, Path], names: Mapping[str, str]) -> None:
        """Take the logs.

        Args:
            logs: The log of each stage that is wanted, by the stage's name.
            names: What people call each of them.
        """
        self._paths = dict(logs)
        self._names = dict(names)
        self._files: dict[str, IO[str]] = {}
        self._numbers: dict[str, str] = {}
        self.failed: str | None = None

    def __enter__(self) -> Self:
        for stage, path in self._paths.items():
            self._files[stage] = path.open("w", encoding="utf-8")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for file in self._files.values():
            file.close()

    @property
    def failed_log(self) -> Path | None:
        """The log of the stage that failed; None where none of them did."""
        return self._paths[self.failed] if self.failed else None

    def watch(self, feed: Callable[[str], None]) -> Callable[[str], None]:
        """Return what takes BuildKit's lines apart, and hands on what is news to people."""

        def take(line: str) -> None:
            found = self._LINE.match(line)
            if found is None:
                return
            number, stage, _, text, ended = found.groups()
            if stage is not None:
                if stage in self._files:
                    self._numbers[number] = stage
                elif line.endswith("load build context"):
                    feed("sends what the containers are made of")
                return
            stage = self._numbers.get(number)
            if stage is None:
                return
            if ended:
                if ended == "ERROR:":
                    self.failed = self.failed or stage
                return
            self._files[stage].write(f"{text or ''}\n")
            self._files[stage].flush()
            feed(f"{self._names[stage]}: {text or ''}")

        return take

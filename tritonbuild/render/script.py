"""One step as a bash script of its own: exactly what runs, and what runs by hand too.

The environment stands at the top, down to a marker: `tritonbuild shell` reads it from there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tritonbuild.plan.model import StepKind
from tritonbuild.proc import GITHUB_CACHE, INHERITED, INHERITED_PREFIXES, PROXIES, STEP_MARK
from tritonbuild.render.bash import format_commands, format_functions, quote

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from tritonbuild.plan.model import Step

END_OF_ENVIRONMENT = "# end of environment"

# Who runs it by hand has more in the environment than tritonbuild lets through, and some of that
# would change the result: CC, LDFLAGS, DESTDIR, CMAKE_..., GIT_...
_KEPT = (
    *sorted({*INHERITED, "LC_ALL", "PWD", "MAKEFLAGS", STEP_MARK}),
    *(f"{prefix}*" for prefix in INHERITED_PREFIXES),
    *(name for proxy in PROXIES for name in (proxy, proxy.upper())),
)
# Of these the job tokens alone.
_CLEAN_MAKEFLAGS = "if [[ ${MAKEFLAGS-} != *--jobserver-auth=fifo:* ]]; then unset -v MAKEFLAGS; fi"

# A configure check or an installed file must not depend on the user's umask.
_UMASK = "umask 022"


def render_script(
    step: Step,
    name: str,
    environment: Mapping[str, str],
    secrets: Mapping[str, Path] | None = None,
) -> str:
    """Return the script of a step.

    Args:
        step: A step that has commands.
        name: `NN-<step>`.
        environment: Variables that its programs get.
        secrets: Variables whose values stand in files that not everybody may read.

    Raises:
        RenderError: A value cannot stand in a script.
    """
    functions = format_functions(step.commands)
    lines = [
        "#!/usr/bin/env bash",
        f"# {name}: what tritonbuild runs for this step; `bash {name}.sh` does the same by hand.",
        "# A value that holds a $ is text, on purpose:",
        "# shellcheck disable=SC2016",
        _UMASK,
        "# Nothing else of the environment that it is started in counts.",
        *_clean(step),
        *(f"export {key}={quote(value)}" for key, value in sorted(environment.items())),
        *(f'export {key}="$(<{quote(str(path))})"' for key, path in (secrets or {}).items()),
        END_OF_ENVIRONMENT,
        "set -e",
        *functions,
        "set -x",
        *format_commands(step.commands),
    ]
    return "\n".join(lines) + "\n"


def _clean(step: Step) -> list[str]:
    """Return the lines that take away what else there is in the environment."""
    asks_buildkit = step.kind in (StepKind.CONTAINER, StepKind.IMAGE)
    kept = "|".join((*_KEPT, *(GITHUB_CACHE if asks_buildkit else ())))
    return [
        "for name in $(compgen -e); do",
        f'  case $name in {kept}) ;; *) unset -v "$name" ;; esac',
        "done",
        _CLEAN_MAKEFLAGS,
    ]

"""Workflows for GitHub and GitLab: the same commands in both, in the form of each.

A workflow runs what anyone can run by hand. Values reach the shell as text: they are quoted for it,
and nothing in them is read as an expression of the service's. What differs between boards is the
variable BOARD alone, so that one job serves all of them.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tritonbuild.render.bash import quote
from tritonbuild.render.template import render_template

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from tritonbuild.arch import Arch
    from tritonbuild.plan.model import Request

# Where each service looks for it.
OUTPUTS = {"github": ".github/workflows/tritonserver.yml", "gitlab": ".gitlab-ci.yml"}
# Where BuildKit can keep what it built, the usual place first: GitHub's cache service, or the
# project's own container registry.
CACHES = {"github": ("gha", "none"), "gitlab": ("registry", "none")}
# GitHub runs a job where `runs-on` says; GitLab where no tag is asked for.
RUNNERS: dict[str, str | None] = {"github": "ubuntu-24.04", "gitlab": None}
# The executor that the workflow is for, where components are compiled.
BUILDX = "buildx"
# Executors that run outside of Docker, and so find ccache in tritonbuild's own cache.
_WITH_CCACHE = ("emulated", "cross")

# Pinned, since a tag can be moved. Each pair stands so in many public workflows.
ACTIONS = {
    "checkout": ("actions/checkout", "de0fac2e4500dabe0009e67214ff5f5447ce83dd", "v6.0.2"),
    "cache": ("actions/cache", "cdf6c1fa76f9f475f3d7449005a359c84ca0f306", "v5.0.3"),
    "upload": ("actions/upload-artifact", "b7c566a772e6b6bfb58ed0dc250532a479d7789f", "v6.0.0"),
    "download": ("actions/download-artifact", "37930b1c2abaa49bbe596cd826c3c89aef350131", "v7.0.0"),
    "qemu": ("docker/setup-qemu-action", "ce360397dd3f832beb865e1373c09c0e9f86d70a", "v4.0.0"),
    "buildx": ("docker/setup-buildx-action", "4d04d5d9486b7bd6fa91e7baf45bbb4f8b9deedd", "v4.0.0"),
    "runtime": (
        "crazy-max/ghaction-github-runtime", "04d248b84655b509d8c44dc1d6f990c879747487", "v4.0.0",
    ),
}  # fmt: skip

# Every command works here, so that none depends on what an earlier job left in a home folder.
WORK_DIR = "build/tritonserver"
_LINE_LENGTH = 88

# `<%= x %>`, since workflows use double braces themselves.
_DELIMITERS = {
    "variable_start_string": "<%=", "variable_end_string": "%>",
    "block_start_string": "<%", "block_end_string": "%>",
    "comment_start_string": "<%#", "comment_end_string": "%>",
}  # fmt: skip


@dataclass(frozen=True)
class Pipeline:
    """What a workflow is to do.

    Attributes:
        boards: One run of the job each.
        archs: Their architectures.
        request: What to build; its board is not looked at.
        executor: Where it is built; None where nothing is compiled.
        recipes: Folder of recipes, relative to the repository.
        formats: Packages to make.
        install: What pip is to install as tritonbuild.
        cache: One of the service's `CACHES`.
        runner: Where jobs run (`RUNNERS`).
        command: The command that makes this workflow, for its head.
    """

    boards: tuple[str, ...]
    archs: tuple[Arch, ...]
    request: Request
    executor: str | None
    recipes: str | None
    formats: tuple[str, ...]
    install: str
    cache: str
    runner: str | None
    command: tuple[str, ...]


def render_ci(service: str, pipeline: Pipeline) -> str:
    """Return the workflow for a service, under a head that says what made it."""
    buildx = pipeline.executor == BUILDX
    # Docker spells them as Debian does.
    platforms = sorted({str(arch) for arch in pipeline.archs})
    text = render_template(
        f"ci/{service}.yml.j2",
        {
            "actions": {
                key: f"{name}@{commit} # {version}"
                for key, (name, commit, version) in ACTIONS.items()
            },
            "boards": json.dumps(list(pipeline.boards)),
            "buildx": buildx,
            "ccache": pipeline.executor in _WITH_CCACHE,
            "debian_packages": " ".join(_debian_packages(buildx=buildx)),
            "gha": pipeline.cache == "gha",
            "registry": pipeline.cache == "registry",
            "install": quote_word(pipeline.install),
            "platforms": ",".join(platforms),
            "runner": pipeline.runner,
            **_make_commands(pipeline),
        },
        delimiters=_DELIMITERS,
    )
    return seal(pipeline.command, f"\n{text}")


def _debian_packages(*, buildx: bool) -> list[str]:
    packages = ["ca-certificates", "git", "python3-venv"]
    return sorted([*packages, "docker-buildx", "docker-cli"] if buildx else packages)


# --- commands --------------------------------------------------------------------------------


def list_choice(request: Request, executor: str | None, recipes: str | None) -> list[str]:
    """Return the options that say what to build, but the board: those that `doctor` takes, too."""
    options = [] if request.os is None else ["--os", request.os]
    options += [] if request.release is None else ["--release", request.release]
    options += ["--from", str(request.provider)]
    options += [] if executor is None else ["--executor", executor]
    for name in request.components:
        options += ["--component", name]
    for name, way in request.variants.items():
        options += ["--variant", f"{name}={way}"]
    return options + ([] if recipes is None else ["--recipes", recipes])


def list_details(request: Request) -> list[str]:
    """Return the options that say what to build, and that `doctor` does not ask for."""
    options = [] if request.mirror == "upstream" else ["--mirror", request.mirror]
    options += [] if request.jobs is None else ["--jobs", str(request.jobs)]
    for one in request.settings:
        options += ["--set", f"{one.component}.{one.flag}={one.value}"]
    if request.base_image:
        options += ["--base-image", request.base_image]
    return options + ([] if request.accelerate else ["--no-accelerate"])


def _make_commands(pipeline: Pipeline) -> dict[str, str]:
    """Return the commands of a job by the name of their step."""
    choice = list_choice(pipeline.request, pipeline.executor, pipeline.recipes)
    details = list_details(pipeline.request)
    board = ["--board", '"$BOARD"']
    work = ["--work-dir", WORK_DIR]
    formats = [word for one in pipeline.formats for word in ("--format", one)]
    recipes = [] if pipeline.recipes is None else ["--recipes", quote_word(pipeline.recipes)]
    build = [*board, *map(quote_word, [*choice, *details]), *work]
    return {
        "prepare": _wrap(["tritonbuild", "doctor", "--fix", *board, *map(quote_word, choice)]),
        "build": _make_build(build, pipeline),
        "smoke": _wrap(["tritonbuild", "smoke", *work, "--timeout", "300", *_keep("smoke")]),
        "package": _wrap(["tritonbuild", "package", *work, *formats, *recipes, *_keep("package")]),
        "report": _REPORT,
    }


def _keep(part: str) -> list[str]:
    """Return what writes down for the report what a command prints."""
    return ["|", "tee", f"build/{part}.txt"]


# How each place of BuildKit's cache is named, and which variable is set where a release is built.
_CACHE_PLACES = {
    "gha": ("type=gha,scope=tritonbuild-$BOARD", '[ "$GITHUB_REF_TYPE" != tag ]'),
    "registry": (
        "type=registry,ref=$CI_REGISTRY_IMAGE/tritonbuild-cache:$BOARD",
        '[ -z "${CI_COMMIT_TAG:-}" ]',
    ),
}


def _make_build(options: list[str], pipeline: Pipeline) -> str:
    """Return the command that builds, with BuildKit's cache where there is one.

    A release is made of what is fetched and checked, not of what another run left. A cache that
    cannot be written is no failure of the build.
    """
    first = "mkdir -p build\n"
    command = ["tritonbuild", "build", *options]
    if pipeline.executor == BUILDX:
        command.append("--no-image")  # nobody takes it from a runner; `package` has one to upload
    if pipeline.executor != BUILDX or pipeline.cache == "none":
        return first + _wrap([*command, *_keep("build")])
    place, applies = _CACHE_PLACES[pipeline.cache]
    return (
        f"{first}cache=()\n"
        f"if {applies}; then # a release takes nothing that another run left\n"
        f'  cache=(--cache-from "{place}"\n'
        f'    --cache-to "{place},mode=max,ignore-error=true")\n'
        "fi\n"
    ) + _wrap([*command, '"${cache[@]}"', *_keep("build")])


# What was not reached has no file; the reason of a failure comes last.
_REPORT = f"""\
mkdir -p build
{{
  echo "## Triton for $BOARD"
  for part in build smoke package; do
    if [ -s "build/$part.txt" ]; then
      printf '\\n**%s**\\n\\n~~~~text\\n' "$part"
      cat "build/$part.txt"
      printf '~~~~\\n'
    fi
  done
  if failed=$(tritonbuild logs --failed --work-dir {WORK_DIR} 2> /dev/null); then
    printf '\\n**failed**\\n\\n~~~~text\\n%s\\n~~~~\\n' "$failed"
  fi
}} > build/report.md"""


def quote_word(text: str) -> str:
    """Return text as one word of a script in a workflow.

    GitHub fills in `${{ ... }}` before a shell sees the script, in quotes or not: such braces are
    taken apart.

    Raises:
        RenderError: No argument can hold it (see `quote`).
    """
    word = quote(text)
    return word.replace("${{", "\\x24{{" if word.startswith("$'") else "$''{{")


def _wrap(words: Iterable[str]) -> str:
    """Return a command, on several lines where it is long; no option is parted from its value."""
    lines: list[str] = []
    for group in _group(list(words)):
        if lines and len(lines[-1]) + len(group) < _LINE_LENGTH:
            lines[-1] += f" {group}"
        else:
            lines.append(group)
    return " \\\n  ".join(lines)


def _group(words: Sequence[str]) -> list[str]:
    groups: list[str] = []
    for word in words:
        if groups and not word.startswith("--") and word != "|":
            groups[-1] += f" {word}"
        else:
            groups.append(word)
    return groups


# --- the head --------------------------------------------------------------------------------

_CHECKSUM = re.compile(r"(?m)^# checksum: sha256:([0-9a-f]{64})\n")


def seal(command: Sequence[str], text: str) -> str:
    """Put a head on a workflow, with the command that makes it and a checksum of all else."""
    words = " ".join(quote(word) for word in command)
    head = (
        f"# Made by `{' '.join(command[:3])}`. Change its options instead of this file:\n"
        f"#   {words}\n"
    )
    return f"{head}# checksum: sha256:{_hash(head + text)}\n{text}"


def is_sealed(text: str) -> bool:
    """Return whether a text is as `seal` made it, and nobody has edited it since."""
    found = _CHECKSUM.search(text)
    if found is None:
        return False
    return found[1] == _hash(text[: found.start()] + text[found.end() :])


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()

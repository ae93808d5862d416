"""The release that build.py's version options ask for, with the tags that follow from it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from tritonbuild.errors import UsageError
from tritonbuild.plan.named import check_tag, split_pair
from tritonbuild.recipe.fields import ProviderKind
from tritonbuild.recipe.load import suggest

if TYPE_CHECKING:
    from tritonbuild.plan.model import Request
    from tritonbuild.plan.switches import Switches
    from tritonbuild.recipe.load import RecipeBook
    from tritonbuild.recipe.model import Release

_VERSION = re.compile(r"[0-9][A-Za-z0-9._+-]*")

# build.py's names of the repositories that CMake fetches, and the recipes'.
REPOSITORIES = {
    "common": "common",
    "core": "core",
    "backend": "backend",
    "thirdparty": "third_party",
}

# What a release's recipe knows beside its containers, and another version's would not be.
_OF_ITS_VERSION = (
    "onnxruntime_version", "onnxruntime_openvino_version", "openvino_version", "dcgm_version",
    "conda_version", "vllm_version",
)  # fmt: skip


def choose_release(book: RecipeBook, request: Request, switches: Switches) -> Release:
    """Return the release that was asked for, with other versions and tags where they were given.

    Raises:
        UsageError: A version is malformed or unknown, or a tag is none.
    """
    for option, value in (
        ("--version", switches.version),
        ("--container-version", switches.container_version),
        ("--upstream-container-version", switches.upstream_container_version),
    ):
        if value is not None and not _VERSION.fullmatch(value):
            msg = f"{option} {value!r}: no version"
            raise UsageError(msg, hint="for example 2.41.0 or 23.12")
    release = _find_release(book, request, switches)
    changes: dict[str, object] = {}
    if switches.container_version is not None:
        tag = default_tag(switches.container_version)
        changes = {
            "container_version": switches.container_version,
            "tag": tag,
            "repo_tags": release.repo_tags.model_copy(
                update=dict.fromkeys(REPOSITORIES.values(), tag)
            ),
        }
    if switches.upstream_container_version is not None:
        changes["upstream_container_version"] = switches.upstream_container_version
    release = release.model_copy(update=changes)
    tags = _parse_repo_tags(switches.repo_tags)
    return release.model_copy(update={"repo_tags": release.repo_tags.model_copy(update=tags)})


def default_tag(container_version: str) -> str:
    """Return the tag that build.py takes for everything of a container's version."""
    return "main" if container_version.endswith("dev") else f"r{container_version}"


def _find_release(book: RecipeBook, request: Request, switches: Switches) -> Release:
    named = request.release or book.board(request.board).release
    release = book.release(named)
    wanted = switches.version
    if wanted is None or wanted == release.triton_version:
        return release
    if request.release is not None:
        msg = f"--version {wanted}: --release {named} is {release.triton_version}"
        raise UsageError(msg, hint="leave one of them out")
    known = {
        book.release(name).triton_version: name
        for name in book.names("releases")
        if ProviderKind.SOURCE in book.release(name).providers
    }
    if wanted in known:
        return book.release(known[wanted])
    if switches.container_version is None or switches.upstream_container_version is None:
        msg = f"--version {wanted}: its container versions are not known"
        hint = (
            f"known: {', '.join(known)}; or add --container-version and "
            "--upstream-container-version"
        )
        raise UsageError(msg, hint=hint)
    changes: dict[str, object] = {
        "triton_version": wanted,
        "conda_sha256": {},
        **dict.fromkeys(_OF_ITS_VERSION),
    }
    return release.model_copy(update=changes)


def _parse_repo_tags(texts: tuple[str, ...]) -> dict[str, str]:
    found: dict[str, str] = {}
    for text in texts:
        name, tag = split_pair("--repo-tag", text, ":", "COMPONENT:TAG", "core:r23.12")
        if name not in REPOSITORIES:
            msg = f'--repo-tag {text}: unknown repository "{name}"{suggest(name, REPOSITORIES)}'
            raise UsageError(msg, hint=f"known: {', '.join(REPOSITORIES)}")
        check_tag("--repo-tag", text, tag, pull=False)
        found[REPOSITORIES[name]] = tag
    return found

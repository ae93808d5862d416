"""Components by build.py's rules: NAME[:TAG], repositories by name, and names that changed."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from tritonbuild.errors import UsageError
from tritonbuild.recipe.component import Component, GitClone, SourceProvider
from tritonbuild.recipe.fields import GIT_ADDRESS, GIT_REF
from tritonbuild.recipe.load import suggest

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tritonbuild.recipe.load import RecipeBook

ORGANIZATION = "https://github.com/triton-inference-server"

# What each option names: the kind, and how the repository of NAME is called.
_KINDS = {
    "--backend": ("backend", "_backend"),
    "--repoagent": ("repoagent", "_repository_agent"),
    "--cache": ("cache", "_cache"),
}
_WORDS = {"repoagent": "repository agent"}
_OPTIONS = {kind: option for option, (kind, _) in _KINDS.items()}

# Folders of the build folder that are no component's.
_TAKEN = ("tritonserver", "opt", "install", "ci", "archives")

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]*")
_TAG = re.compile(GIT_REF)
_PULL = re.compile(r"pull/[0-9]+/(head|merge)")
_ADDRESS = re.compile(GIT_ADDRESS)
IMAGE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/:@-]*")


def rename(name: str) -> str:
    """Return what a name is called now."""
    return "tensorflow" if name == "tensorflow2" else name


def check_choice(option: str, value: str, known: Iterable[str]) -> str:
    """Return a value that is one of those that there are.

    Raises:
        UsageError: It is not.
    """
    if value not in known:
        msg = f'{option}: unknown value "{value}"{suggest(value, known)}'
        raise UsageError(msg, hint=f"known: {', '.join(known)}")
    return value


def split_pair(option: str, text: str, sign: str, form: str, example: str) -> tuple[str, str]:
    """Return what stands before and after the first `sign`.

    Raises:
        UsageError: Something is missing.
    """
    first, found, second = text.partition(sign)
    if not (first and found and second) or "\0" in text:
        msg = f"{option} {text!r}: {form} is wanted"
        raise UsageError(msg, hint=f"for example {option} {example}")
    return first, second


def parse_named(option: str, text: str) -> tuple[str, str | None]:
    """Return name and tag of NAME[:TAG].

    Raises:
        UsageError: It is malformed, or gone from Triton.
    """
    name, colon, tag = text.partition(":")
    if name == "tensorflow1":
        msg = f"{option} {text}: Triton has no TensorFlow 1 since 23.04"
        raise UsageError(msg, hint=f"{option} tensorflow is TensorFlow 2")
    name = rename(name)
    if not _NAME.fullmatch(name) or name in _TAKEN:
        msg = f"{option} {text!r}: {name!r} cannot be the name of a component"
        raise UsageError(msg, hint=f"for example {option} {_EXAMPLES[option]}")
    if not colon:
        return name, None
    check_tag(option, text, tag)
    return name, tag


_EXAMPLES = {"--backend": "python:r23.12", "--repoagent": "checksum", "--cache": "local"}


def check_tag(option: str, text: str, tag: str, *, pull: bool = True) -> None:
    """Refuse what git could not take for a tag, a branch or a pull request.

    Raises:
        UsageError: It is none.
    """
    if tag.startswith("pull/"):
        if not pull:
            msg = f"{option} {text}: a pull request cannot be built this way; build.py would pass it on"
            raise UsageError(msg, hint="CMake fetches this repository itself, by tag or branch")
        if not _PULL.fullmatch(tag):
            msg = f"{option} {text}: a pull request is pull/NUMBER/head"
            raise UsageError(msg, hint=f"for example {option} python:pull/334/head")
    elif not _TAG.fullmatch(tag) or ".." in tag or tag.endswith(("/", ".", ".lock")):
        msg = f"{option} {text!r}: {tag!r} is no tag or branch"
        raise UsageError(msg, hint="for example r23.12, main or pull/334/head")


def find_named(
    book: RecipeBook, option: str, name: str, tag: str | None, organization: str | None
) -> Component:
    """Return the component that an option names, at its tag; one by the general rule if unknown.

    Raises:
        UsageError: It is of another kind, or almost one that there is.
    """
    kind, suffix = _KINDS[option]
    if name not in book.names("components"):
        _check_meant(book, option, name, tag)
        clone = GitClone(repository=f"{ORGANIZATION}/{name}{suffix}.git", directory=name)
        component = Component(
            name=name,
            summary=f"the {_WORDS.get(kind, kind)} {name}, by the general rule",
            kind=kind,
            extends=kind,
            source=SourceProvider(clone=clone),
        )
    else:
        component = book.component(name)
        _check_kind(option, component)
    if tag is not None and component.kind == "core-switch":
        msg = f"{option} {name}:{tag}: {name} is part of the core and has no tag of its own"
        raise UsageError(msg, hint=f"say {option} {name}; --repo-tag core:{tag} is the core's")
    return _place(component, tag, organization)


def _check_kind(option: str, component: Component) -> None:
    name, kind = component.name, component.kind
    # build.py's --backend takes ensemble, too.
    is_switch = kind == "core-switch" and option == "--backend"
    if not component.abstract and (kind == _KINDS[option][0] or is_switch):
        return
    what = (
        "only there for others to extend" if component.abstract else f"a {_WORDS.get(kind, kind)}"
    )
    other = _OPTIONS.get(kind)
    hint = f"say {other} {name}" if other and other != option else "name another one"
    msg = f"{option} {name}: {name} is {what}"
    raise UsageError(msg, hint=hint)


def _check_meant(book: RecipeBook, option: str, name: str, tag: str | None) -> None:
    kind = _KINDS[option][0]
    known = [one for one in book.names("components") if book.component(one).kind == kind]
    guess = suggest(name, known)
    if tag is None and guess:
        msg = f'{option}: unknown {_WORDS.get(kind, kind)} "{name}"{guess}'
        raise UsageError(msg, hint=f"if {name} is meant, say its tag: {option} {name}:r23.12")


def _place(component: Component, tag: str | None, organization: str | None) -> Component:
    """Return a component with its repository's address and tag as they were asked for."""
    source = component.source
    if source is None or source.clone is None:
        return component
    clone = source.clone
    changes: dict[str, object] = {"tag": tag} if tag else {}
    if organization is not None and not _ADDRESS.fullmatch(organization):
        msg = f"--github-organization {organization!r}: an address that git takes is wanted"
        raise UsageError(msg, hint=f"for example {ORGANIZATION}")
    if organization and clone.repository.startswith(f"{ORGANIZATION}/"):
        rest = clone.repository.removeprefix(ORGANIZATION)
        changes["repository"] = organization.rstrip("/") + rest
    placed = clone.model_copy(update=changes)
    return component.model_copy(update={"source": source.model_copy(update={"clone": placed})})


def is_using_library_path(component: Component) -> bool:
    """Return whether a component can be built with ready-made libraries from a folder."""
    wanted = f"library_path.{component.name}"
    args = component.source.cmake_args if component.source else ()
    return any(wanted in (arg.from_ or "", *arg.if_) for arg in args)

"""The options of Triton's build.py, and what they come to: recipes, a request and a few choices.

They mean what they mean there (server/build.py, commit 35dc045f, days before r23.12). What build.py
takes and then gets wrong without a word is an error here.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from tritonbuild.errors import UsageError
from tritonbuild.plan.model import Setting, SettingKind
from tritonbuild.plan.named import (
    IMAGE,
    check_choice,
    find_named,
    is_using_library_path,
    parse_named,
    rename,
    split_pair,
)
from tritonbuild.plan.options import MACHINES, SourceOptions
from tritonbuild.plan.select import default_components
from tritonbuild.plan.versions import choose_release
from tritonbuild.recipe.fields import ProviderKind
from tritonbuild.recipe.load import suggest

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tritonbuild.plan.model import Request
    from tritonbuild.recipe.component import Component
    from tritonbuild.recipe.load import RecipeBook

# build.py's --enable-X, and the core's variable.
FEATURES = {
    "logging": "TRITON_ENABLE_LOGGING",
    "stats": "TRITON_ENABLE_STATS",
    "metrics": "TRITON_ENABLE_METRICS",
    "gpu-metrics": "TRITON_ENABLE_METRICS_GPU",
    "cpu-metrics": "TRITON_ENABLE_METRICS_CPU",
    "tracing": "TRITON_ENABLE_TRACING",
    "nvtx": "TRITON_ENABLE_NVTX",
    "gpu": "TRITON_ENABLE_GPU",
    "mali-gpu": "TRITON_ENABLE_MALI_GPU",
}
ENDPOINTS = {
    "grpc": "TRITON_ENABLE_GRPC",
    "http": "TRITON_ENABLE_HTTP",
    "sagemaker": "TRITON_ENABLE_SAGEMAKER",
    "vertex-ai": "TRITON_ENABLE_VERTEX_AI",
}
FILESYSTEMS = {
    "gcs": "TRITON_ENABLE_GCS",
    "s3": "TRITON_ENABLE_S3",
    "azure_storage": "TRITON_ENABLE_AZURE_STORAGE",
}
BUILD_TYPES = ("Release", "Debug", "RelWithDebInfo", "MinSizeRel")
PLATFORMS = ("linux", "igpu")
IMAGES = ("base", "gpu-base", "pytorch", "tensorflow")

# What --enable-all adds, in build.py's order.
ALL_BACKENDS = (
    "ensemble", "identity", "square", "repeat", "tensorflow", "onnxruntime", "python", "dali",
    "pytorch", "openvino", "fil", "tensorrt",
)  # fmt: skip
ALL_REPOAGENTS = ("checksum",)
ALL_CACHES = ("local", "redis")
NOT_IN_ALL = ("mali-gpu",)

# The way of a component that has several that is build.py's own.
UPSTREAM_VARIANT = "upstream"

_CMAKE_NAME = re.compile(r"([A-Za-z_][A-Za-z0-9_.+-]*)(?::([A-Z]+))?")


@dataclass(frozen=True)
class Switches:
    """build.py's options as they were given; what was not given is None or empty.

    Attributes:
        like_upstream: What was not given is as build.py has it, not as the recipes do.
        features: --enable-X (True) and --no-enable-X (False), by X.
        container: The build is for a container.
    """

    like_upstream: bool = False
    features: Mapping[str, bool] = field(default_factory=dict)
    enable_all: bool = False
    endpoints: tuple[str, ...] = ()
    filesystems: tuple[str, ...] = ()
    min_compute_capability: str | None = None
    build_type: str | None = None
    backends: tuple[str, ...] = ()
    repoagents: tuple[str, ...] = ()
    caches: tuple[str, ...] = ()
    repo_tags: tuple[str, ...] = ()
    images: tuple[str, ...] = ()
    library_paths: tuple[str, ...] = ()
    extra_core: tuple[str, ...] = ()
    override_core: tuple[str, ...] = ()
    extra_backend: tuple[str, ...] = ()
    override_backend: tuple[str, ...] = ()
    core_build: bool = True
    force_clone: bool = True
    organization: str | None = None
    version: str | None = None
    container_version: str | None = None
    upstream_container_version: str | None = None
    platform: str | None = None
    machine: str | None = None
    verbose: bool = True
    container: bool = False
    container_source: bool = True


def apply_switches(
    book: RecipeBook, request: Request, switches: Switches
) -> tuple[RecipeBook, Request, SourceOptions]:
    """Return recipes, request and choices that come to what build.py's options ask for.

    Raises:
        UsageError: An option is malformed, names what does not exist, or does not go with others.
    """
    release = choose_release(book, request, switches)
    book = book.with_recipes("releases", [release])
    if switches.enable_all:
        switches = _enable_all(book, request, switches)
    components = _name_components(book, switches)
    book = book.with_recipes("components", components.values())
    names = _list_components(book, request, switches, components)
    options = _make_options(book, request, switches, names)
    changed = replace(
        request,
        release=release.name,
        os=request.os or _find_os(book, request, switches),
        components=names,
        settings=(*_make_settings(switches, names), *request.settings),
        variants={**_choose_variants(book, switches, options, names), **request.variants},
    )
    return book, changed, options


def _find_os(book: RecipeBook, request: Request, switches: Switches) -> str | None:
    """Return the system that build.py is for, where the board has it."""
    known = book.board(request.board).os
    wanted = switches.like_upstream or switches.container
    return "ubuntu-22.04" if wanted and "ubuntu-22.04" in known else None


def _enable_all(book: RecipeBook, request: Request, switches: Switches) -> Switches:
    board = book.board(request.board)
    if board.cuda is None:
        msg = f"--enable-all: it includes CUDA and TensorRT, and {board.name} has no CUDA GPU"
        hint = "name what is wanted, or give the board's recipe its compute capability: cuda: ..."
        raise UsageError(msg, hint=hint)

    def add(given: tuple[str, ...], names: tuple[str, ...]) -> tuple[str, ...]:
        present = {rename(text.partition(":")[0]) for text in given}
        return (*given, *(name for name in names if name not in present))

    features = {name: name not in NOT_IN_ALL for name in FEATURES if name not in NOT_IN_ALL}
    return replace(
        switches,
        features={**features, **switches.features},
        backends=add(switches.backends, ALL_BACKENDS),
        repoagents=add(switches.repoagents, ALL_REPOAGENTS),
        caches=add(switches.caches, ALL_CACHES),
        endpoints=add(switches.endpoints, tuple(ENDPOINTS)),
        filesystems=add(switches.filesystems, tuple(FILESYSTEMS)),
    )


def _name_components(book: RecipeBook, switches: Switches) -> dict[str, Component]:
    """Return the components that --backend, --repoagent and --cache name, with their tags."""
    found: dict[str, Component] = {}
    given: dict[str, str] = {}
    for option, texts in (
        ("--backend", switches.backends),
        ("--repoagent", switches.repoagents),
        ("--cache", switches.caches),
    ):
        for text in texts:
            name, tag = parse_named(option, text)
            if name in found and given[name] != f"{option} {text}":
                msg = (
                    f"{option} {text}: {given[name]} is there too, and both are built in one folder"
                )
                raise UsageError(msg, hint="name each component once")
            given[name] = f"{option} {text}"
            found[name] = find_named(book, option, name, tag, switches.organization)
    # build.py: the python backend at vllm's tag, after it.
    if "vllm" in found and "python" not in found:
        source = found["vllm"].source
        tag = source.clone.tag if source and source.clone else None
        python = find_named(book, "--backend", "python", tag, switches.organization)
        items = list(found.items())
        items.insert(len({rename(text.partition(":")[0]) for text in switches.backends}),
                     ("python", python))  # fmt: skip
        found = dict(items)
    return found


def _list_components(
    book: RecipeBook, request: Request, switches: Switches, named: Mapping[str, Component]
) -> tuple[str, ...]:
    """Return what is built, in order; the board's components where no backend is named."""
    asked = [*request.components]
    if switches.like_upstream:
        asked = ["core", *asked]
    elif not asked and not switches.backends:
        asked = [*default_components(book.board(request.board), ProviderKind.SOURCE)]
    names = tuple(dict.fromkeys([*asked, *named]))
    kinds = {book.component(name).kind for name in names}
    if not switches.core_build and not kinds - {"core", "core-switch"}:
        msg = "--no-core-build: nothing is left to build"
        raise UsageError(msg, hint="name a backend, a repository agent or a cache")
    return names


# --- choices ----------------------------------------------------------------------------------


def _make_options(
    book: RecipeBook, request: Request, switches: Switches, names: tuple[str, ...]
) -> SourceOptions:
    board = book.board(request.board)
    machine = switches.machine
    if machine is not None:
        check_choice("--target-machine", machine, MACHINES)
        if MACHINES[machine] != board.arch and not switches.like_upstream:
            msg = f"--target-machine {machine}: {board.name} is {board.arch}"
            raise UsageError(msg, hint="take a board with that machine, or add --like-upstream")
    usual = "linux" if switches.like_upstream else board.platform
    platform = switches.platform or usual
    if platform in ("windows", "jetpack"):
        hint = {"windows": "Triton's own build.py does that", "jetpack": "since r23.12 it is igpu"}
        msg = f"--target-platform {platform}: there is no such platform here"
        raise UsageError(msg, hint=hint[platform])
    check_choice("--target-platform", platform, PLATFORMS)
    return SourceOptions(
        build_type=check_choice("--build-type", switches.build_type or "Release", BUILD_TYPES),
        images=_parse_images(switches.images),
        library_paths=_parse_library_paths(book, switches.library_paths, names),
        platform=platform,
        machine=machine,
        board_switches=not switches.like_upstream,
        core_build=switches.core_build,
        force_clone=switches.force_clone,
        verbose=switches.verbose,
        collect_sources=switches.container and switches.container_source,
    )


def _parse_images(texts: tuple[str, ...]) -> dict[str, str]:
    found: dict[str, str] = {}
    for text in texts:
        name, image = split_pair("--image", text, ",", "NAME,IMAGE", "base,ubuntu:22.04")
        name = check_choice("--image", rename(name), IMAGES)
        if not IMAGE.fullmatch(image):
            msg = f"--image {text}: {image!r} is no name of an image"
            raise UsageError(msg, hint="for example --image base,ubuntu:22.04")
        found[name] = image
    return found


def _parse_library_paths(
    book: RecipeBook, texts: tuple[str, ...], names: tuple[str, ...]
) -> dict[str, str]:
    """Return the folders of ready-made libraries; build.py drops what it does not understand."""
    found: dict[str, str] = {}
    for text in texts:
        name, path = split_pair(
            "--library-paths", text, ":", "BACKEND:PATH", "onnxruntime:/opt/ort"
        )
        name = rename(name)
        users = [one for one in names if is_using_library_path(book.component(one))]
        if name not in users:
            msg = f"--library-paths {text}: {name} takes no library path in this build"
            raise UsageError(msg, hint=f"those that do: {', '.join(users) or 'none'}")
        if not path.startswith("/"):
            msg = f"--library-paths {text}: an absolute path is wanted"
            raise UsageError(msg, hint="the script changes folders")
        found[name] = path
    return found


def _choose_variants(
    book: RecipeBook, switches: Switches, options: SourceOptions, names: tuple[str, ...]
) -> dict[str, str]:
    """Return build.py's own way, where it was asked for or its own libraries or images are."""
    found: dict[str, str] = {}
    for name in names:
        source = book.component(name).source
        if source and UPSTREAM_VARIANT in source.variants:
            is_wanted = name in options.library_paths or "base" in options.images
            if switches.like_upstream or is_wanted:
                found[name] = UPSTREAM_VARIANT
    return found


# --- values -----------------------------------------------------------------------------------


def _make_settings(switches: Switches, names: tuple[str, ...]) -> list[Setting]:
    """Return CMake values in the place of the recipes' own, and those added on the way."""
    found: list[Setting] = []
    defaults = "--like-upstream" if switches.like_upstream else None
    for name, variable in FEATURES.items():
        wanted = switches.features.get(name)
        origin = f"--enable-{name}" if wanted else f"--no-enable-{name}"
        if wanted is None and defaults:
            wanted, origin = False, defaults
        if wanted is not None:
            found.append(Setting("core", variable, "ON" if wanted else "OFF", origin))
    for option, given, known in (
        ("--endpoint", switches.endpoints, ENDPOINTS),
        ("--filesystem", switches.filesystems, FILESYSTEMS),
    ):
        for value in given:
            _check_listed(option, value, known)
        if given or defaults:
            origin = option if given else str(defaults)
            found += [
                Setting("core", variable, "ON" if name in given else "OFF", origin)
                for name, variable in known.items()
            ]
    capability = switches.min_compute_capability or ("6.0" if defaults else None)
    if capability is not None:
        if not re.fullmatch(r"\d+\.\d+", capability):
            msg = f"--min-compute-capability {capability}: a number such as 8.7 is wanted"
            raise UsageError(msg, hint="for example --min-compute-capability 7.2")
        option = "--min-compute-capability"
        found.append(Setting("core", "TRITON_MIN_COMPUTE_CAPABILITY", capability, option))
    return [*found, *_make_own_settings(switches, names)]


def _check_listed(option: str, value: str, known: Mapping[str, str]) -> None:
    """Refuse what build.py's `in` would not find, and so leave out."""
    if "," in value:
        msg = f"{option} {value}: one value at a time; build.py would leave them all out"
        each = " ".join(f"{option} {part.strip()}" for part in value.split(","))
        raise UsageError(msg, hint=f"say {each}")
    check_choice(option, value, known)


def _make_own_settings(switches: Switches, names: tuple[str, ...]) -> list[Setting]:
    """Return --extra-... and --override-..., which change one component's command line."""
    found: list[Setting] = []
    for option, kind, texts in (
        ("--extra-core-cmake-arg", SettingKind.EXTRA, switches.extra_core),
        ("--override-core-cmake-arg", SettingKind.OVERRIDE, switches.override_core),
    ):
        if texts and not switches.core_build:
            msg = f"{option} {texts[0]}: with --no-core-build nothing gets it"
            raise UsageError(msg, hint="leave one of them out")
        found += [_parse_own(option, kind, "core", text, text) for text in texts]
    for option, kind, texts in (
        ("--extra-backend-cmake-arg", SettingKind.EXTRA, switches.extra_backend),
        ("--override-backend-cmake-arg", SettingKind.OVERRIDE, switches.override_backend),
    ):
        for text in texts:
            example = "python:NAME=VALUE"
            name, rest = split_pair(option, text, ":", "BACKEND:NAME=VALUE", example)
            name = rename(name)
            if name not in names or name in ("core", "ensemble"):
                guess = suggest(name, names)
                msg = f"{option} {text}: {name} is not a backend of this build{guess}"
                others = [one for one in names if one not in ("core", "ensemble")]
                raise UsageError(msg, hint=f"this build has: {', '.join(others) or 'none'}")
            found.append(_parse_own(option, kind, name, rest, text))
    return found


def _parse_own(option: str, kind: SettingKind, component: str, text: str, whole: str) -> Setting:
    """Return one argument; only the first `=` separates, so a value may hold more of them."""
    name, equals, value = text.partition("=")
    found = _CMAKE_NAME.fullmatch(name)
    if not (equals and found) or "\0" in value:
        form = "NAME=VALUE" if component == "core" else "BACKEND:NAME=VALUE"
        msg = f"{option} {whole!r}: {form} is wanted"
        raise UsageError(msg, hint=f"for example {option} "
                         f"{'' if component == 'core' else component + ':'}CMAKE_CXX_FLAGS=-O1")  # fmt: skip
    return Setting(component, found[1], value, option, kind, found[2])

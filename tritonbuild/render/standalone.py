"""A build in containers that needs nothing but `docker buildx bake`: no tritonbuild, no work directory.

It starts from an image of the board's system and brings everything itself. The scripts are those of a
build in a work directory; see `tritonbuild.render.containers` for what both have in common.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tritonbuild.paths import data_dir
from tritonbuild.plan.containers import CONTAINERS
from tritonbuild.plan.layout import CCACHE_DIR, HOME
from tritonbuild.plan.root import COMPILERS
from tritonbuild.render.containers import (
    Base,
    ImageFacts,
    render_bake,
    render_dockerfile,
)
from tritonbuild.render.script import render_script

if TYPE_CHECKING:
    from tritonbuild.plan.model import Plan, Step
    from tritonbuild.recipe.load import RecipeBook
    from tritonbuild.recipe.model import Mirror

# What the Dockerfile's own instructions run, from templates/.
_TOOLS = (
    "compilers/compare.sh",
    "compilers/sample.cc",
    "containers/check_compilers.sh",
    "containers/compilers.sh",
    "containers/find_packages.sh",
    "containers/prepare_apt.sh",
    "containers/run_step.py",
    "containers/system.sh",
)

_SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def render_standalone(
    plan: Plan, book: RecipeBook, *, facts: ImageFacts, tag: str, epoch: int, arrange: str
) -> dict[str, str]:
    """Return the files of a context by their names.

    Args:
        plan: A plan for BuildKit whose scripts bring their archives themselves.
        book: Its recipes.
        facts: What the image says of itself.
        tag: Name of the image.
        epoch: SOURCE_DATE_EPOCH of the build.
        arrange: The program that makes the tree of compilers.

    Raises:
        RenderError: A value cannot stand in a script or a Dockerfile.
    """
    mirror = book.mirror(plan.selection.mirror)
    files = {f"tools/{name.partition('/')[2]}": _read_template(name) for name in _TOOLS}
    files["tools/arrange.py"] = arrange
    files["tools/gitconfig"] = _format_git_config(mirror)
    files["toolchain.cmake"] = _read_template("toolchain/native.cmake")
    step = plan.find_step(CONTAINERS)
    for script in step.scripts:
        environment = _make_environment(plan, script, epoch)
        files[f"scripts/{script.id}.sh"] = render_script(script, script.id, environment)
    files["Dockerfile"] = render_dockerfile(
        plan,
        accelerated=plan.selection.accelerate,
        ccache_dir=CCACHE_DIR,
        facts=facts,
        base=_describe_base(plan, mirror),
    )
    files["docker-bake.json"] = render_bake(plan, tag=tag, network="default")
    return files


def _read_template(name: str) -> str:
    return (data_dir("templates") / name).read_text(encoding="utf-8")


def _describe_base(plan: Plan, mirror: Mirror) -> Base:
    """Return the image that everything stands on, and what is installed in it."""
    root: dict[str, Any] = plan.find_step("root").details
    build_root: dict[str, Any] = plan.find_step("build-root").details
    compilers: dict[str, Any] = plan.find_step("compilers").details
    verify: dict[str, Any] = plan.find_step("verify").details
    usual = f"{root['distribution']}:{root['suite']}"
    return Base(
        image=plan.selection.base_image or mirror.rewrite_image(usual) or usual,
        distribution=root["distribution"],
        suite=root["suite"],
        mirror=root["mirror"],
        compilers_mirror=compilers["mirror"],
        build_packages=tuple(build_root["packages"]),
        runtime_packages=(*root["packages"], *verify["runtime_packages"].values()),
        gcc=compilers["gcc"],
    )


def _format_git_config(mirror: Mirror) -> str:
    rules = [
        f"[url {_quote_git(rule.to)}]\n\tinsteadOf = {_quote_git(rule.from_)}\n"
        for rule in mirror.git
    ]
    return "".join(["# Addresses of upstream's, and where this build looks for them.\n", *rules])


def _quote_git(value: str) -> str:
    """Return a value as git-config(1) wants it."""
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _make_environment(plan: Plan, step: Step, epoch: int) -> dict[str, str]:
    """Return the environment of a script; `tritonbuild.engine.toolchain` has a work directory's."""
    path = [str(HOME / "tools"), *([str(COMPILERS)] if plan.selection.accelerate else [])]
    environment = {
        "PATH": ":".join([*path, _SYSTEM_PATH]),
        "LC_ALL": "C.UTF-8",
        "CMAKE_TOOLCHAIN_FILE": str(HOME / "toolchain.cmake"),
        "CMAKE_GENERATOR": "Ninja",
        "CMAKE_C_COMPILER_LAUNCHER": "ccache",
        "CMAKE_CXX_COMPILER_LAUNCHER": "ccache",
        "CCACHE_DIR": str(CCACHE_DIR),
        "SOURCE_DATE_EPOCH": str(epoch),
        "PYTHONDONTWRITEBYTECODE": "1",
        # As in every build: a compiler's version string is not the code that it makes.
        "CFLAGS": "-fno-ident",
        "CXXFLAGS": "-fno-ident",
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": "include.path",
        "GIT_CONFIG_VALUE_0": str(HOME / "tools" / "gitconfig"),
        "GIT_TERMINAL_PROMPT": "0",
    }
    if plan.selection.qemu_cpu:
        environment["QEMU_CPU"] = plan.selection.qemu_cpu
    for name, value in step.environment.items():
        before = environment.get(name)
        environment[name] = f"{before} {value}" if before and name.endswith("FLAGS") else value
    return environment

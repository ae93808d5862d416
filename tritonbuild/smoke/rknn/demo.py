"""rknn_yolov5_demo, built as any component is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tritonbuild.errors import UsageError
from tritonbuild.plan.model import Executor, Request

if TYPE_CHECKING:
    from pathlib import Path

    from tritonbuild.paths import Workspace
    from tritonbuild.plan.model import Plan
    from tritonbuild.plan.npu import BoardNpu
    from tritonbuild.recipe.load import RecipeBook


@dataclass(frozen=True)
class BuiltDemo:
    """The demo's folder, as its `make install` fills it.

    Attributes:
        folder: The folder.
        program: The program in it.
        model: The model for the board.
        image: The picture.
        library: The vendor's library that the program is linked to.
    """

    folder: Path
    program: Path
    model: Path
    image: Path
    library: Path


def build_demo(book: RecipeBook, plan: Plan, ws: Workspace, npu: BoardNpu) -> BuiltDemo:
    """Build the demo for the board of a plan; what is built already is kept.

    It has a work directory of its own in the plan's, and comes from the same mirror.

    Raises:
        TritonBuildError: See `build_plan`.
    """
    # What builds needs much that no other verb of smoke does.
    from tritonbuild.engine.build import BuildOptions, build_plan, plan_build

    chosen = plan.selection
    executor = chosen.executor if chosen.executor is not Executor.BUILDX else Executor.EMULATED
    request = Request(
        board=chosen.board, os=chosen.os, release=chosen.release, executor=executor,
        components=(npu.family.demo.component,), mirror=chosen.mirror,
        accelerate=chosen.accelerate, base_image=chosen.base_image,
    )  # fmt: skip
    made, demo_ws = plan_build(book, request, ws.root / "smoke" / npu.family.demo.component)
    build_plan(made, demo_ws, book, BuildOptions())
    folder = demo_ws.tritonserver_dir / "programs" / npu.family.demo.component
    return find_demo(npu, folder)


def find_demo(npu: BoardNpu, folder: Path) -> BuiltDemo:
    """Return what a demo's folder holds for a board.

    Raises:
        UsageError: Something that is needed is not there.
    """
    demo = npu.family.demo
    parts = {
        "program": folder / demo.program,
        "model": _find_model(npu, folder),
        "image": folder / demo.image,
        "library": folder / demo.libraries / npu.family.library,
    }
    labels = folder / demo.labels
    missing = [path for path in (*parts.values(), labels) if not path.is_file()]
    if missing:
        msg = f"{folder} is not what rknn_yolov5_demo installs: it has no " + ", ".join(
            str(path.relative_to(folder)) for path in missing
        )
        raise UsageError(msg, hint="name its folder install/rknn_yolov5_demo_Linux")
    return BuiltDemo(folder, **parts)


def _find_model(npu: BoardNpu, folder: Path) -> Path:
    """Return the model for a board, where it is or should be."""
    places = [folder / npu.family.demo.model.format(folder=name) for name in npu.soc.folders]
    return next((path for path in places if path.is_file()), places[0])

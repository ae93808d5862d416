"""Which cmake arguments each component gets, and where each value came from."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from tritonbuild.errors import RecipeError, UsageError
from tritonbuild.plan.model import Flag
from tritonbuild.plan.select import lineage
from tritonbuild.recipe.load import suggest
from tritonbuild.recipe.model import ProviderKind

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tritonbuild.errors import TritonBuildError
    from tritonbuild.plan.model import Selection, Setting
    from tritonbuild.recipe.load import RecipeBook
    from tritonbuild.recipe.model import Board, BoardSwitch, CMakeArg

Flags = dict[str, tuple[Flag, ...]]


def resolve_flags(
    book: RecipeBook, selection: Selection, install_prefixes: Mapping[str, str]
) -> Flags:
    """Return the arguments of each component that is built, in upstream's order.

    Args:
        book: The recipes.
        selection: What is built.
        install_prefixes: CMAKE_INSTALL_PREFIX of each component.

    Raises:
        UsageError: A setting names a component or switch that does not exist, or switches off
            what the board needs.
        RecipeError: A recipe takes a value from somewhere that does not exist.
    """
    built = [name for name in selection.components if book.component(name).kind != "core-switch"]
    _check_setting_components(selection, built)
    _check_board_switches(book, book.board(selection.board))
    flags: Flags = {}
    for name in built:
        scope = _Scope(book, selection, flags, install_prefixes[name])
        found = [
            scope.resolve(part.name, index, arg)
            for part in lineage(book, book.component(name))
            for index, arg in enumerate(part.source.cmake_args if part.source else ())
        ]
        flags[name] = tuple(_override(book, selection, name, found))
    _check_requirements(book.board(selection.board).switches, selection, flags)
    return flags


class _Scope:
    """Where `from:` looks things up, for one component."""

    def __init__(
        self, book: RecipeBook, selection: Selection, flags: Flags, install_prefix: str
    ) -> None:
        self._book = book
        self._selection = selection
        self._flags = flags
        self._install_prefix = install_prefix

    def resolve(self, component: str, index: int, arg: CMakeArg) -> Flag:
        """Return the argument that stands at `index` in a component's recipe."""
        if arg.value is not None:
            return Flag(arg.name, arg.type, arg.value, f"components/{component}")
        assert arg.from_ is not None
        head, _, tail = arg.from_.partition(".")
        value = self._look_up(head, tail)
        if value is None:
            where = self._locate(component, index)
            msg = f"{where}: {arg.name} takes its value from {arg.from_}: no such thing"
            raise RecipeError(
                msg, hint="release.FIELD, build.FIELD, selected.NAME or NAME.VARIABLE"
            )
        return Flag(arg.name, arg.type, value, arg.from_)

    def _locate(self, component: str, index: int) -> str:
        path = ("source", "cmake_args", index, "from")
        return self._book.locate("components", component, *path)

    def _look_up(self, head: str, tail: str) -> str | None:
        if head == "selected":
            return "ON" if tail in self._selection.components else "OFF"
        if head == "build":
            return {"type": "Release", "install_prefix": self._install_prefix}.get(tail)
        if head == "release":
            found: object = self._book.release(self._selection.release)
            for part in tail.split("."):
                found = getattr(found, part, None)
            return found if isinstance(found, str) else None
        return next((flag.value for flag in self._flags.get(head, ()) if flag.name == tail), None)


def _override(
    book: RecipeBook, selection: Selection, component: str, flags: list[Flag]
) -> list[Flag]:
    """Apply the board's switches, then the user's settings; new names go to the end."""
    board = book.board(selection.board)
    for switch in board.switches:
        if switch.component == component:
            _check_value(component, switch, flags, f"board {board.name}", RecipeError)
            flags = _set(flags, switch.flag, switch.value, f"boards/{board.name}: {switch.why}")
    for setting in selection.settings:
        if setting.component == component:
            _check_value(component, setting, flags, "--set", UsageError)
            flags = _set(flags, setting.flag, setting.value, "--set")
    return flags


def _set(flags: list[Flag], name: str, value: str, origin: str) -> list[Flag]:
    if any(flag.name == name for flag in flags):
        return [replace(f, value=value, origin=origin) if f.name == name else f for f in flags]
    return [*flags, Flag(name, None, value, origin)]


def _check_value(
    component: str,
    asked: BoardSwitch | Setting,
    flags: list[Flag],
    who: str,
    error: type[TritonBuildError],
) -> None:
    """Refuse a name that is almost one that the component has, and a switch that is neither.

    Names that are no switches of Triton's are taken as they are: CMake has many of its own.
    """
    name, value = asked.flag, asked.value
    known = {flag.name: flag for flag in flags}
    if name not in known and name.startswith("TRITON_ENABLE_"):
        msg = f'{who}: {component} has no switch "{name}"{suggest(name, known)}'
        raise error(msg, hint=f"known: {', '.join(known)}")
    if name in known and known[name].type == "BOOL" and value not in ("ON", "OFF"):
        msg = f'{who}: {name} is ON or OFF, not "{value}"'
        raise error(msg, hint=f"{name}=ON or {name}=OFF")


def _check_setting_components(selection: Selection, built: list[str]) -> None:
    for setting in selection.settings:
        if selection.provider is ProviderKind.WHEEL:
            msg = f"--set {setting.component}.{setting.flag} does not go with --from wheel"
            raise UsageError(msg, hint="wheels come compiled; switches need --from source")
        if setting.component not in built:
            guess = suggest(setting.component, built)
            msg = f'--set: "{setting.component}" is not a component of this build{guess}'
            raise UsageError(msg, hint=f"this build has: {', '.join(built)}")


def _check_board_switches(book: RecipeBook, board: Board) -> None:
    """Refuse a switch that can never take effect, because a name in it is mistyped."""
    known = book.names("components")
    for switch in board.switches:
        for name in (switch.component, *switch.required_with):
            if name not in known:
                msg = f'board {board.name}: switches name the component "{name}"'
                msg += f", which does not exist{suggest(name, known)}"
                raise RecipeError(msg, hint=f"known: {', '.join(known)}")


def _check_requirements(
    switches: tuple[BoardSwitch, ...], selection: Selection, flags: Flags
) -> None:
    for switch in switches:
        needed_by = [name for name in switch.required_with if name in selection.components]
        for flag in flags.get(switch.component, ()):
            if flag.name == switch.flag and flag.value != switch.value and needed_by:
                msg = (
                    f"{selection.board} with {needed_by[0]} needs "
                    f"{switch.component}.{switch.flag}={switch.value}, not {flag.value}: {switch.why}"
                )
                hint = f"leave that --set out, or build without {needed_by[0]}"
                raise UsageError(msg, hint=hint)

"""Which cmake arguments each component gets, and where each value came from."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from tritonbuild.errors import RecipeError, UsageError
from tritonbuild.plan.model import Flag, SettingKind
from tritonbuild.plan.named import is_using_library_path
from tritonbuild.plan.options import SourceOptions
from tritonbuild.plan.scope import Scope
from tritonbuild.plan.select import lineage
from tritonbuild.recipe.fields import ProviderKind
from tritonbuild.recipe.load import suggest

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from tritonbuild.errors import TritonBuildError
    from tritonbuild.plan.model import Selection, Setting
    from tritonbuild.recipe.component import Need
    from tritonbuild.recipe.load import RecipeBook
    from tritonbuild.recipe.model import Board, BoardSwitch

Flags = dict[str, tuple[Flag, ...]]


def resolve_flags(
    book: RecipeBook,
    selection: Selection,
    install_prefixes: Mapping[str, str],
    archives_dir: str = "",
    *,
    options: SourceOptions | None = None,
    jobs: Mapping[str, int] | None = None,
) -> Flags:
    """Return the arguments of each component that is built, in upstream's order.

    Args:
        book: The recipes.
        selection: What is built.
        install_prefixes: CMAKE_INSTALL_PREFIX of each component.
        archives_dir: Folder below which ready-made archives are unpacked.
        options: What build.py's options ask for.
        jobs: Compilers at once, for each component.

    Raises:
        UsageError: A setting names a component or switch that does not exist, switches off what
            the board needs, or does not go with another value.
        RecipeError: A recipe takes a value from somewhere that does not exist.
    """
    options = options or SourceOptions()
    built = [name for name in selection.components if book.component(name).kind != "core-switch"]
    _check_setting_components(book, selection, built)
    _check_board_names(book, book.board(selection.board))
    if selection.provider.is_ready_made:  # nothing is configured, and no release tells of it
        return {}
    # What others take from a component, and what CMake gets in the end.
    asked: Flags = {}
    final: Flags = {}
    for name in built:
        scope = Scope(
            book, selection, options, asked, install_prefixes[name], archives_dir,
            (jobs or {}).get(name, 1),
        )  # fmt: skip
        component = _Component(book, selection, name, scope)
        asked[name] = tuple(component.find_flags(board_switches=options.board_switches))
        final[name] = tuple(component.amend(asked[name]))
    _check_requirements(book.board(selection.board).switches, selection, final)
    scope = Scope(book, selection, options, final, "", archives_dir, 1)
    _check_needs(book, built, scope, book.board(selection.board))
    return final


@dataclass(frozen=True)
class _Component:
    """One component's arguments: the recipe's, then the board's values, then the user's."""

    book: RecipeBook
    selection: Selection
    name: str
    scope: Scope

    def find_flags(self, *, board_switches: bool) -> list[Flag]:
        """Return what the component gets and others may take from it."""
        flags: list[Flag] = []
        kinds: dict[str, str | None] = {}
        for part in lineage(self.book, self.book.component(self.name)):
            for index, arg in enumerate(part.source.cmake_args if part.source else ()):
                kinds.setdefault(arg.name, arg.type)
                place = (part.name, "source", "cmake_args", index)
                if self.scope.holds(arg.if_, place):
                    flags.append(self.scope.resolve(arg, place))
            kinds |= dict.fromkeys(part.source.switches if part.source else (), "BOOL")
        flags = _add(self._force_build_type(flags), self._find_variant_flags())
        kinds |= {flag.name: flag.type for flag in flags}
        if board_switches:
            flags = self._apply_board(flags, kinds)
        for setting in self._settings(SettingKind.SET):
            _check_value(self.name, setting, kinds, setting.origin, UsageError)
            flags = _set(flags, setting, setting.origin, kinds)
        return flags

    def amend(self, flags: Iterable[Flag]) -> list[Flag]:
        """Return the flags with what is for this component's command line alone."""
        amended = list(flags)
        known = [flag.name for flag in amended]
        for setting in self._settings(SettingKind.OVERRIDE):
            if setting.flag not in known:
                guess = suggest(setting.flag, known)
                msg = f"{setting.origin}: {self.name} gets no {setting.flag}{guess}"
                hint = f"add it with {setting.origin.replace('override', 'extra')}"
                raise UsageError(msg, hint=hint)
            amended = _set(amended, setting, setting.origin, {})
        # The last value of a name counts, as in build.py.
        extra = {setting.flag: setting for setting in self._settings(SettingKind.EXTRA)}
        return [*amended, *(Flag(s.flag, s.type, s.value, s.origin) for s in extra.values())]

    def _settings(self, kind: SettingKind) -> list[Setting]:
        return [
            one
            for one in self.selection.settings
            if one.component == self.name and one.kind is kind
        ]

    def _force_build_type(self, flags: list[Flag]) -> list[Flag]:
        source = self.book.component(self.name).source
        if source is None or source.build_type is None:
            return flags
        origin = f"components/{self.name}"
        return [
            replace(flag, value=source.build_type, origin=origin)
            if flag.name == "CMAKE_BUILD_TYPE"
            else flag
            for flag in flags
        ]

    def _find_variant_flags(self) -> list[Flag]:
        """Return what the chosen way to build adds, after all that is always there."""
        source = self.book.component(self.name).source
        is_source = self.selection.provider is ProviderKind.SOURCE
        if source is None or not source.variants or not is_source:
            return []
        chosen = self.selection.variants[self.name]
        found = []
        for index, arg in enumerate(source.variants[chosen].cmake_args):
            place = (self.name, "source", "variants", chosen, "cmake_args", index)
            if self.scope.holds(arg.if_, place):
                found.append(self.scope.resolve(arg, place))
        return found

    def _apply_board(self, flags: list[Flag], kinds: Mapping[str, str | None]) -> list[Flag]:
        board = self.book.board(self.selection.board)
        for switch in board.switches:
            if switch.component == self.name:
                _check_value(self.name, switch, kinds, f"board {board.name}", RecipeError)
                flags = _set(flags, switch, f"boards/{board.name}: {switch.why}", kinds)
        return flags


def _add(flags: list[Flag], more: Iterable[Flag]) -> list[Flag]:
    """Return flags with more behind them; one of a name that is there takes its place."""
    given = {flag.name: flag for flag in more}
    there = {flag.name for flag in flags}
    return [
        *(given.get(flag.name, flag) for flag in flags),
        *(flag for flag in given.values() if flag.name not in there),
    ]


def _set(
    flags: list[Flag],
    asked: BoardSwitch | Setting,
    origin: str,
    kinds: Mapping[str, str | None],
) -> list[Flag]:
    """Put a value in the place of the one that is there; new names go to the end."""
    name, value = asked.flag, asked.value
    if any(flag.name == name for flag in flags):
        return [replace(f, value=value, origin=origin) if f.name == name else f for f in flags]
    return [*flags, Flag(name, kinds.get(name), value, origin)]


def _check_value(
    component: str,
    asked: BoardSwitch | Setting,
    kinds: Mapping[str, str | None],
    who: str,
    error: type[TritonBuildError],
) -> None:
    """Refuse a name that is almost one that the component has, and a switch that is neither.

    Names that are no switches of Triton's are taken as they are: CMake has many of its own.
    """
    name, value = asked.flag, asked.value
    if name not in kinds and name.startswith("TRITON_ENABLE_"):
        msg = f'{who}: {component} has no switch "{name}"{suggest(name, kinds)}'
        raise error(msg, hint=f"known: {', '.join(kinds)}")
    if kinds.get(name) == "BOOL" and value not in ("ON", "OFF"):
        msg = f'{who}: {name} is ON or OFF, not "{value}"'
        raise error(msg, hint=f"{name}=ON or {name}=OFF")


def _check_setting_components(book: RecipeBook, selection: Selection, built: list[str]) -> None:
    for setting in selection.settings:
        if selection.provider.is_ready_made:
            msg = f"{setting.origin} {setting.component}.{setting.flag} does not go with "
            msg += f"--from {selection.provider}"
            hint = f"{selection.provider}s come compiled; switches need --from source"
            raise UsageError(msg, hint=hint)
        if setting.component not in built:
            guess = suggest(setting.component, built)
            msg = f'{setting.origin}: "{setting.component}" is not a component of this build{guess}'
            raise UsageError(msg, hint=f"this build has: {', '.join(built)}")
        source = book.component(setting.component).source
        if source and source.copies:
            msg = f"{setting.origin}: {setting.component} is only copied: cmake does not run for it"
            raise UsageError(msg, hint=f"leave {setting.flag} out")


def _check_board_names(book: RecipeBook, board: Board) -> None:
    """Refuse what can never take effect, because the name of a component in it is mistyped."""
    known = book.names("components")
    switched = [name for one in board.switches for name in (one.component, *one.required_with)]
    for where, names in (
        ("switches", switched),
        ("limits", [limit.component for limit in board.limits]),
        ("libraries", [*board.libraries]),
    ):
        for name in names:
            if name not in known:
                msg = f'board {board.name}: {where} name the component "{name}"'
                msg += f", which does not exist{suggest(name, known)}"
                raise RecipeError(msg, hint=f"known: {', '.join(known)}")
    for name in board.libraries:
        if not is_using_library_path(book.component(name)):
            msg = f"board {board.name}: libraries: {name} takes no ready-made libraries"
            users = [one for one in known if is_using_library_path(book.component(one))]
            raise RecipeError(msg, hint=f"those that do: {', '.join(users)}")


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
                hint = f"say {switch.flag}={switch.value}, or build without {needed_by[0]}"
                raise UsageError(msg, hint=hint)


def _check_needs(book: RecipeBook, built: list[str], scope: Scope, board: Board) -> None:
    """Refuse values that do not go together, before CMake does or worse does not.

    Raises:
        UsageError: Says which values, and why.
    """
    for name in built:
        for part in lineage(book, book.component(name)):
            for index, need in enumerate(part.source.needs if part.source else ()):
                place = (part.name, "source", "needs", index)
                if scope.holds(need.if_, place) and not scope.holds(need.then, place):
                    raise UsageError(_say_need(name, need, board), hint=_say_way_out(need, board))


def _say_need(component: str, need: Need, board: Board) -> str:
    wanted = " and ".join(_say_term(term) for term in need.then)
    who = " and ".join(
        board.name if _is_of_board(term, board) else _say_term(term) for term in need.if_
    )
    who = who or component
    return f"{who} needs {wanted}: {need.why}"


def _say_way_out(need: Need, board: Board) -> str:
    hint = f"say {' and '.join(_say_term(term) for term in need.then)}"
    if not need.if_:
        return f"{hint}, or leave the component out"
    others = [_say_term(_turn(term)) for term in need.if_ if not _is_of_board(term, board)]
    return f"{hint}, or {' or '.join(others)}" if others else hint


def _is_of_board(term: str, board: Board) -> bool:
    """Return whether a term holds because of what the board is."""
    return term == f"target.platform={board.platform}"


def _turn(term: str) -> str:
    return term.removeprefix("not ") if term.startswith("not ") else f"not {term}"


def _say_term(term: str) -> str:
    """Return a term as people would write it: `core.X=ON`, `--image base,...`."""
    positive = term.removeprefix("not ")
    head, _, tail = positive.partition(".")
    no = "no " if positive != term else ""
    if head == "image":
        return f"{no}--image {tail},IMAGE"
    if head == "selected":
        return f"{no}component {tail}"
    if head == "target":
        name, _, value = tail.partition("=")
        return f"another --target-{name}" if no else f"--target-{name} {value}"
    if "=" in positive:
        return f"{no}{positive}"
    return f"{positive}={'OFF' if no else 'ON'}"

"""From what the user asked for to names that exist and go together."""

from __future__ import annotations

import re
from graphlib import CycleError, TopologicalSorter
from typing import TYPE_CHECKING

from tritonbuild.errors import RecipeError, UnsupportedError, UsageError
from tritonbuild.plan.conditions import is_within
from tritonbuild.plan.model import Executor, Request, Selection
from tritonbuild.recipe.fields import ProviderKind
from tritonbuild.recipe.load import suggest

if TYPE_CHECKING:
    from tritonbuild.plan.model import Machine, OwnArchive
    from tritonbuild.recipe.component import Component, SourceVariant
    from tritonbuild.recipe.load import RecipeBook
    from tritonbuild.recipe.model import Board, Release


AUTO_MIRROR = "auto"

# What `--archive NAME=FILE` and locks call a release's whole tree.
TREE = "tritonserver"


def resolve_selection(
    book: RecipeBook, request: Request, machine: Machine | None = None
) -> Selection:
    """Decide everything that the request left open, from the recipes.

    Args:
        book: The recipes.
        request: What the user asked for.
        machine: The machine that builds; a native build is for it.

    Raises:
        RecipeError: Something that was named does not exist, or requirements go in a circle.
        UsageError: Things that exist but do not go together.
    """
    board = book.board(request.board)
    if request.release is None:
        book.check_reference("releases", board.release, "boards", board.name, "release")
    release = book.release(request.release or board.release)
    provider = request.provider or ProviderKind.SOURCE
    if provider.is_ready_made and request.executor is not None:
        msg = f"--executor does not go with --from {provider}: nothing is compiled"
        raise UsageError(msg, hint="leave --executor out")
    _check_release(book, release, provider)
    _check_acceleration(request, provider)
    _check_base_image(request, provider)
    _check_mirror(book, request.mirror, provider)
    book = book.suit_to(release)
    components, added = _resolve_components(book, board, request.components, provider)
    _check_versions(book, release, components)
    is_source = provider is ProviderKind.SOURCE
    executor = (request.executor or Executor.NATIVE) if is_source else None
    if executor is Executor.NATIVE and machine is not None:
        arch, system = machine.arch, _take_own_os(book, machine, request.os)
    else:
        arch, system = str(board.arch), _choose_os(book, board, request.os)
    return Selection(
        board=board.name,
        arch=arch,
        os=system,
        release=release.name,
        provider=provider,
        executor=executor,
        components=components,
        added=added,
        mirror=request.mirror,
        settings=request.settings,
        qemu_cpu=board.cpu.qemu,
        variants=_choose_variants(book, components, request.variants) if is_source else {},
        checkouts=_check_checkouts(components, request) if request.checkouts else {},
        archives=_check_archives(release, request, provider) if request.archives else {},
        accelerate=request.accelerate,
        base_image=request.base_image,
    )


def _check_release(book: RecipeBook, release: Release, provider: ProviderKind) -> None:
    """Refuse a release that does not come in the way that was asked for.

    Raises:
        UsageError: Says which ways there are, and which releases come in this one.
    """
    if provider in release.providers:
        return
    msg = f"{release.name} does not come from {provider}"
    names = [n for n in book.names("releases") if provider in book.release(n).providers]
    hint = f"use --from {' or '.join(release.providers)}"
    raise UsageError(msg, hint=f"{hint}, or --release {' or '.join(names)}" if names else hint)


def _check_acceleration(request: Request, provider: ProviderKind) -> None:
    """Refuse --no-accelerate where it would do nothing.

    Raises:
        UsageError: It would.
    """
    made = provider.is_ready_made
    way = f"--from {provider}" if made else f"--executor {request.executor}"
    may_be_emulated = request.executor in (None, Executor.EMULATED, Executor.BUILDX)
    if not request.accelerate and (made or not may_be_emulated):
        msg = f"--no-accelerate does not go with {way}"
        raise UsageError(msg, hint="leave it out: it is for --executor emulated and buildx")


# A reference of an image, with a host that may have a port, a tag and a digest. Narrower than
# https://github.com/distribution/reference/blob/main/reference.go; nothing that a shell or a
# Dockerfile could take for something else.
_IMAGE = re.compile(
    r"([A-Za-z0-9][A-Za-z0-9.-]*(:\d+)?/)?[a-z0-9]+([._-]+[a-z0-9]+)*(/[a-z0-9]+([._-]+[a-z0-9]+)*)*(:\w[\w.-]{0,127})?"
    r"(@sha256:[0-9a-f]{64})?",
    re.ASCII,
)


def _check_base_image(request: Request, provider: ProviderKind) -> None:
    """Refuse an image where no root is made of it, and what is no name of one.

    Raises:
        UsageError: It is refused.
    """
    image = request.base_image
    if image is None:
        return
    if provider.is_ready_made or request.executor in (None, Executor.NATIVE):
        msg = "--base-image is for builds in a system like the board's"
        raise UsageError(msg, hint="add --executor buildx (or emulated, or cross)")
    check_image_name("--base-image", image)


def check_image_name(option: str, name: str) -> None:
    """Refuse what is no name of an image, before hours of work end with it.

    Raises:
        UsageError: It is none.
    """
    if not _IMAGE.fullmatch(name):
        msg = f"{option} {name!r} is no name of an image"
        raise UsageError(msg, hint="HOST:PORT/NAME:TAG in lower case, such as debian:bookworm")


def _take_own_os(book: RecipeBook, machine: Machine, wanted: str | None) -> str:
    """Return the system of the machine that builds: its libraries are what the tree is linked to.

    Raises:
        UsageError: Another one was asked for.
        RecipeError: There is no recipe for it.
    """
    if wanted is not None and wanted != machine.os:
        msg = f"a native build is for the system that it runs on, {machine.os}, not {wanted}"
        raise UsageError(msg, hint=f"leave --os out, or build on a machine with {wanted}")
    names = book.names("os")
    if machine.os not in names:
        msg = f"there is no recipe for this machine's system, {machine.os}"
        raise RecipeError(msg, hint=f"known: {', '.join(names)}; docs/recipes.md: a new one")
    return book.operating_system(machine.os).name


def _choose_variants(
    book: RecipeBook, components: tuple[str, ...], wanted: dict[str, str]
) -> dict[str, str]:
    """Return the way in which each component that has several is built, the first one if not said.

    Raises:
        UsageError: A component or variant that was named is not there.
    """
    chosen: dict[str, str] = {}
    for name in components:
        source = book.component(name).source
        if source and source.variants:
            chosen[name] = next(iter(source.variants))
    for name, variant in wanted.items():
        if name not in chosen:
            msg = f"--variant {name}={variant}: {name} is not built here in several ways"
            raise UsageError(msg, hint=f"such components: {', '.join(chosen) or 'none'}")
        source = book.component(name).source
        known = source.variants if source else {}
        if variant not in known:
            msg = f'--variant: {name} has no variant "{variant}"{suggest(variant, known)}'
            raise UsageError(msg, hint=f"known: {', '.join(known)}")
        chosen[name] = variant
    return chosen


def _check_mirror(book: RecipeBook, name: str, provider: ProviderKind) -> None:
    """Check that a mirror is there; `auto` is chosen by measuring, when something is fetched.

    Raises:
        RecipeError: It is not.
        UsageError: `auto` for wheels: what pip and apt are set up for is the user's choice.
    """
    if name != AUTO_MIRROR:
        book.mirror(name)
    elif provider is ProviderKind.WHEEL:
        msg = "--mirror auto measures hosts of git repositories and archives"
        hint = f"for wheels, name a mirror: {', '.join(book.names('mirrors'))}"
        raise UsageError(msg, hint=hint)


def _check_archives(
    release: Release, request: Request, provider: ProviderKind
) -> dict[str, OwnArchive]:
    """Return the files of the user's that take the place of the release's archives.

    Raises:
        UsageError: The release has no archive of that name.
    """
    known = [TREE] if provider is ProviderKind.ARCHIVE else list(release.archives)
    for name in request.archives:
        if name not in known:
            msg = f'--archive: {release.name} from {provider} takes no archive "{name}"'
            msg += suggest(name, known)
            raise UsageError(msg, hint=f"it takes: {', '.join(known) or 'none'}")
    return dict(request.archives)


def _check_checkouts(components: tuple[str, ...], request: Request) -> dict[str, str]:
    """Return the local folders that sources are taken from.

    Raises:
        UsageError: A component that was named is not built.
    """
    for name in request.checkouts:
        if name not in components:
            msg = f'--source: "{name}" is not a component of this build{suggest(name, components)}'
            raise UsageError(msg, hint=f"this build has: {', '.join(components)}")
    return dict(request.checkouts)


def _choose_os(book: RecipeBook, board: Board, wanted: str | None) -> str:
    for index, listed in enumerate(board.os):
        book.check_reference("os", listed, "boards", board.name, "os", index)
    name = wanted or board.os[0]
    if name not in board.os:
        known = book.names("os")
        if name in known:
            msg = f"{board.name} has no recipe for {name}"
        else:
            msg = f'unknown operating system "{name}"{suggest(name, board.os)}'
        raise RecipeError(msg, hint=f"{board.name} knows: {', '.join(board.os)}")
    return book.operating_system(name).name


def _resolve_components(
    book: RecipeBook, board: Board, wanted: tuple[str, ...], provider: ProviderKind
) -> tuple[tuple[str, ...], dict[str, str]]:
    """Return the components with all that they require, in order, and who required what."""
    for index, name in enumerate(() if wanted else board.components):
        book.check_reference("components", name, "boards", board.name, "components", index)
    chosen = list(dict.fromkeys(wanted or default_components(board, provider)))
    added: dict[str, str] = {}
    graph: dict[str, tuple[str, ...]] = {}
    queue = list(chosen)
    while queue:
        name = queue.pop(0)
        if name in graph:
            continue
        graph[name] = requirements_of(book, name, provider)
        _check_limits(board, name, provider)
        for required in graph[name]:
            if required not in chosen:
                added.setdefault(required, name)
            queue.append(required)
    rank = {name: index for index, name in enumerate([*added, *chosen])}
    return tuple(_sort(book, graph, rank)), added


def default_components(board: Board, provider: ProviderKind) -> tuple[str, ...]:
    """Return what is built where nothing is named: the board's, without what does not work there.

    Raises:
        UnsupportedError: None of them works.
    """
    found = tuple(n for n in board.components if board.find_refusal(n, provider) is None)
    if not found:
        _check_limits(board, board.components[0], provider)
    return found


def _check_limits(board: Board, name: str, provider: ProviderKind) -> None:
    """Refuse a component that does not work on a board.

    Raises:
        UnsupportedError: It does not; says why, and what goes instead.
    """
    refusal = board.find_refusal(name, provider)
    if refusal is not None:
        msg = f"{name} from {provider} does not work on {board.name}: {refusal.what}"
        raise UnsupportedError(msg, hint=f"{refusal.instead}, or leave {name} out")


def _check_versions(book: RecipeBook, release: Release, components: tuple[str, ...]) -> None:
    """Refuse components that were made for other releases.

    Raises:
        UsageError: Names them all, and what would go together.
    """
    wrong = {name: wanted for name in components for wanted in misfits_of(book, release, name)}
    if not wrong:
        return
    said = [f"{name} goes with Triton {' and '.join(v.split(','))}" for name, v in wrong.items()]
    msg = f"{', '.join(said)}; {release.name} is {release.triton_version}"
    others = [
        name
        for name in book.names("releases")
        if not any(misfits_of(book, book.release(name), one) for one in components)
        and ProviderKind.SOURCE in book.release(name).providers
    ]
    fitting = [
        name
        for name in selectable(book)
        if book.component(name).kind not in ("library", "program")
        and not any(misfits_of(book, release, name))
    ]
    ways = [f"--release {' or '.join(others)}"] if others else []
    ways.append(f"with {release.name}: {', '.join(fitting)}")
    raise UsageError(msg, hint="; ".join(ways))


def misfits_of(book: RecipeBook, release: Release, name: str) -> list[str]:
    """Return the ranges of Triton's versions of a component which a release is not in."""
    ranges = [one.triton for one in lineage(book, book.component(name)) if one.triton]
    return [wanted for wanted in ranges if not is_within(wanted, release.triton_version)]


def _sort(book: RecipeBook, graph: dict[str, tuple[str, ...]], rank: dict[str, int]) -> list[str]:
    sorter = TopologicalSorter(graph)
    try:
        sorter.prepare()
    except CycleError as err:
        names = list(reversed(err.args[1]))
        where = book.locate("components", names[0], "requires")
        msg = f"{where}: components require each other in a circle: {' → '.join(names)}"
        raise RecipeError(msg, hint="take one of the `requires` out") from None
    ordered: list[str] = []
    while sorter.is_active():
        ready = sorted(sorter.get_ready(), key=rank.__getitem__)
        ordered += ready
        sorter.done(*ready)
    return ordered


def requirements_of(book: RecipeBook, name: str, provider: ProviderKind) -> tuple[str, ...]:
    """Return what a component requires, with what it inherits.

    Raises:
        UsageError: It is abstract, or does not come from this provider.
    """
    component = book.component(name)
    if component.abstract:
        msg = f'"{name}" is only there for other components to extend'
        raise UsageError(msg, hint=f"known: {', '.join(selectable(book))}")
    if not component.provides(provider):
        msg = f"{name} does not come from {provider}"
        others = " or ".join(kind for kind in ProviderKind if component.provides(kind))
        raise UsageError(msg, hint=f"use --from {others}, or leave {name} out")
    required: list[str] = []
    for part in lineage(book, component):
        for index, needed in enumerate(part.requires):
            book.check_reference("components", needed, "components", part.name, "requires", index)
            required.append(needed)
    if provider is ProviderKind.WHEEL and component.wheel:
        required += component.wheel.requires
    return tuple(dict.fromkeys(required))


def selectable(book: RecipeBook) -> list[str]:
    """Return the components that --component takes."""
    return [name for name in book.names("components") if not book.component(name).abstract]


def lineage(book: RecipeBook, component: Component) -> list[Component]:
    """Return a component and all that it extends, itself first.

    Raises:
        RecipeError: It extends itself in a circle.
    """
    found = [component]
    while (parent := found[-1].extends) is not None:
        if parent in [part.name for part in found]:
            circle = " → ".join([*(part.name for part in found), parent])
            where = book.locate("components", found[-1].name, "extends")
            msg = f"{where}: components extend each other in a circle: {circle}"
            raise RecipeError(msg, hint="take one of the `extends` out")
        book.check_reference("components", parent, "components", found[-1].name, "extends")
        found.append(book.component(parent))
    return found


def find_variant(component: Component, chosen: dict[str, str]) -> SourceVariant | None:
    """Return the way in which a component is built, None where there is only one."""
    variants = component.source.variants if component.source else {}
    if not variants:
        return None
    return variants[chosen.get(component.name, next(iter(variants)))]

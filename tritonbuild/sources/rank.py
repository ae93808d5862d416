"""Which mirrors to use, and for `--mirror auto` which one is nearest."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from tritonbuild.console import terminal
from tritonbuild.sources.address import mask, strip_credentials
from tritonbuild.sources.mirror import UPSTREAM, Rewriter

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tritonbuild.recipe.load import RecipeBook
    from tritonbuild.recipe.model import Mirror
    from tritonbuild.sources.resolve import Wanted

AUTO = "auto"

# Seconds to connect, and to wait for the first byte.
_TIMEOUT = (3.05, 5)
_WORKERS = 8


@dataclass(frozen=True)
class Measured:
    """How far away a mirror is.

    Attributes:
        seconds: Until its hosts answered, one after the other; None where one did not.
        reason: Why not.
    """

    mirror: Mirror
    seconds: float | None
    reason: str = ""


def choose_mirrors(book: RecipeBook, name: str, wanted: Wanted) -> tuple[Mirror, ...]:
    """Return the mirrors to try, in order, for a mirror's name or `auto`.

    The recipe of the original addresses always takes part: it knows where what died has gone.

    Args:
        book: The recipes.
        name: A mirror, or `auto`: then all of them are measured, and it is said how they rank.
        wanted: What is to be fetched: only hosts that have it are measured.

    Raises:
        RecipeError: There is no such mirror.
    """
    if name != AUTO:
        return tuple(book.mirror(one) for one in dict.fromkeys([name, UPSTREAM]))
    mirrors = [book.mirror(one) for one in book.names("mirrors")]
    ranked = rank_mirrors(mirrors, wanted)
    said = [
        f"{one.mirror.name} ({one.seconds:.2f} s)"
        if one.seconds is not None
        else f"{one.mirror.name} ({one.reason})"
        for one in ranked
    ]
    terminal.info(f"mirrors, the nearest first: {', '.join(said)}")
    return tuple(one.mirror for one in ranked)


def rank_mirrors(mirrors: Sequence[Mirror], wanted: Wanted) -> list[Measured]:
    """Measure mirrors side by side; return the nearest first, those that do not answer last."""
    samples = {mirror.name: _choose_samples(mirror, wanted) for mirror in mirrors}
    addresses = sorted({one for found in samples.values() for one in found})
    with ThreadPoolExecutor(_WORKERS) as pool:
        times = dict(zip(addresses, pool.map(_measure, addresses), strict=True))
    measured = [_sum_up(mirror, [times[one] for one in samples[mirror.name]]) for mirror in mirrors]
    # Among equals the original addresses come first: a mirror that changes nothing wins nothing.
    return sorted(
        measured,
        key=lambda one: (one.seconds is None, one.seconds or 0.0, one.mirror.name != UPSTREAM),
    )


def _choose_samples(mirror: Mirror, wanted: Wanted) -> list[str]:
    """Return the addresses that a mirror would be asked first, one for each host."""
    rewriter = Rewriter([mirror])
    found: dict[str, str] = {}
    for repository in wanted.repositories:
        address = strip_credentials(rewriter.git(repository.repository)[0])
        found.setdefault(f"git {_host_of(address)}", f"git {address}")
    for archive in wanted.archives:
        address = strip_credentials(rewriter.archive(archive.url)[0])
        found.setdefault(f"file {_host_of(address)}", f"file {address}")
    return sorted(found.values())


def _host_of(address: str) -> str:
    return urlsplit(address).netloc if "://" in address else address.partition(":")[0]


def _measure(sample: str) -> float | str:
    """Return how long an address takes to answer, or why it does not."""
    kind, _, address = sample.partition(" ")
    started = time.monotonic()
    try:
        problem = _ask(kind, address)
    except OSError as err:  # requests' errors are such, too
        problem = mask(type(err).__name__)
    return problem or time.monotonic() - started


def _ask(kind: str, address: str) -> str:
    url = urlsplit(address)
    if url.scheme == "file" or address.startswith("/"):
        path = Path(unquote(url.path))
        return "" if path.exists() or path.with_name(f"{path.name}.git").exists() else "not there"
    if url.scheme in ("http", "https"):
        return _ask_web(kind, address)
    return _ask_socket(address)


def _ask_web(kind: str, address: str) -> str:
    import requests

    if kind == "git":
        address = f"{address.rstrip('/')}/info/refs?service=git-upload-pack"
    with requests.get(
        address, stream=True, timeout=_TIMEOUT, headers={"Range": "bytes=0-0"}
    ) as answer:
        return "" if answer.status_code < 400 else f"HTTP {answer.status_code}"


def _ask_socket(address: str) -> str:
    import socket

    url = urlsplit(address)
    host = url.hostname or address.partition("@")[2].partition(":")[0]
    port = url.port or (9418 if url.scheme == "git" else 22)
    with socket.create_connection((host, port), timeout=_TIMEOUT[0]):
        return ""


def _sum_up(mirror: Mirror, answers: Sequence[float | str]) -> Measured:
    reasons = [one for one in answers if isinstance(one, str)]
    if reasons:
        return Measured(mirror, None, f"does not answer: {reasons[0]}")
    return Measured(mirror, sum(one for one in answers if isinstance(one, float)))

"""What recipes know not to work together on an NPU, looked for on a machine."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from tritonbuild.plan.conditions import is_within

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tritonbuild.hosts.facts import Facts
    from tritonbuild.plan.npu import BoardNpu
    from tritonbuild.recipe.npu import Combination


def find_trouble(npu: BoardNpu, facts: Facts, libraries: Sequence[str]) -> Iterator[Combination]:
    """Yield what is known to fail with a machine's versions; what is not known is not.

    Args:
        npu: The NPU.
        facts: What was found on the machine.
        libraries: Versions of the vendor's library that are used there.
    """
    for one in npu.family.combinations:
        if (not one.socs or npu.name in one.socs) and _holds(one, facts, libraries):
            yield one


def _holds(one: Combination, facts: Facts, libraries: Sequence[str]) -> bool:
    """Return whether everything that a combination names is so."""
    kernel = re.match(r"\d+(\.\d+)*", facts.kernel or "")
    wanted = (
        (one.driver, [facts.npu.driver] if facts.npu.driver else []),
        (one.kernel, [kernel[0]] if kernel else []),
        (one.library, libraries),
    )
    return all(
        any(is_within(range_, version) for version in versions)
        for range_, versions in wanted
        if range_ is not None
    )

"""fetch: everything for a plan in one place, to build from without a network."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

from tritonbuild.cli.options import Choice, Json, takes_choice


@takes_choice()
def fetch(
    choice: Choice,
    output: Annotated[Path, typer.Option(help="Folder to write, or a file that ends with .tar.")],
    lock: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(help="Lock to hold to [./tritonbuild.lock, if there is one]."),
    ] = None,
    allow_dirty: Annotated[
        bool, typer.Option("--allow-dirty", help="Take --source checkouts with changes.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Bring everything for a plan into one folder or tar, for `build --offline`. Builds nothing."""
    import json

    from tritonbuild.cli.lock import bring_plan, plan_sources, wheels_of
    from tritonbuild.console import terminal
    from tritonbuild.paths import cache_dir, make_dir
    from tritonbuild.sources.bundle import check_output, check_wheels, write_bundle
    from tritonbuild.sources.lock import Lock, find_lock

    check_output(output.absolute())
    held = find_lock(lock)
    plan = plan_sources(choice)
    wheels = wheels_of(plan)
    if wheels:
        check_wheels(held, wheels)
    cache = make_dir(cache_dir())
    with terminal.step("fetch everything") as shown:

        def bring(store: Path) -> Lock:
            if wheels:
                return Lock()
            return bring_plan(
                plan, choice.book, store, held, shown.progress, allow_dirty=allow_dirty
            )

        logs = make_dir(cache / "logs")
        found = write_bundle(output, bring, wheels, cache=cache, log_dir=logs)
    for note in found.notes:
        terminal.warning(note)
    if as_json:
        content = {
            "path": str(output.absolute()),
            "repositories": len(found.repositories),
            "archives": len(found.archives),
            "wheels": len(found.wheels),
            "notes": list(found.notes),
        }
        terminal.output(json.dumps(content, indent=2))
        return
    terminal.output(str(output.absolute()))

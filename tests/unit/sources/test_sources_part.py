"""What of a build's sources one component's container is given."""

from __future__ import annotations

import shutil
from pathlib import PurePosixPath

import pytest

from tritonbuild.sources.part import write_part

SEEN_AS = PurePosixPath("/usr/src/tritonserver/sources")


@pytest.fixture
def upstream(upstream):
    for name in ("one", "two.x", "three"):
        upstream.commit(name, {"a": f"{name}\n"})
    return upstream


def read_part(world, *names: str) -> dict[str, str]:
    """Return the files of the first component's part: their texts, by their paths."""
    lock = world.bring(world.want(*((name, "main") for name in names)))
    target = world.tmp / "parts" / names[0]
    shutil.rmtree(target.parent, ignore_errors=True)
    write_part(world.store, lock, names[0], target, seen_as=SEEN_AS)
    files = [path for path in target.rglob("*") if path.is_file()]
    return {
        str(path.relative_to(target)): path.read_bytes().decode(errors="replace") for path in files
    }


@pytest.mark.parametrize("name", ["one", "two.x"])
def test_part_is_the_same_whatever_else_is_built(world, name):
    alone = read_part(world, name)
    assert read_part(world, name, "three") == alone
    assert "three" not in alone["gitconfig"]
    assert f'[url "file://{SEEN_AS}/git/upstream.invalid/{name}"]' in alone["gitconfig"]
    assert str(world.store) not in alone["gitconfig"]

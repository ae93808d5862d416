"""Wheels that are broken, wrong or made to do harm, through a whole build with the real pip."""

from __future__ import annotations

import hashlib
import io
import posixpath
import stat
import struct
import warnings
import zipfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tritonbuild.errors import SourceError
from tritonbuild.sources.wheel import WheelArchive

METADATA = {
    "tiny-1.0.dist-info/METADATA": "Metadata-Version: 2.1\nName: tiny\nVersion: 1.0\n",
    "tiny-1.0.dist-info/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
}
PROGRAM = "#!/bin/sh\n" + "echo tiny\n" * 500


def zip_of(*members: tuple[zipfile.ZipInfo | str, str]) -> bytes:
    out = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        warnings.simplefilter("ignore")  # zipfile warns of duplicate names
        for name, text in [("tiny/bin/tritonserver", PROGRAM), *members, *METADATA.items()]:
            archive.writestr(name, text)
    return out.getvalue()


def link(name: str) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name)
    info.create_system = 3
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    return info


def damaged() -> bytes:
    """The program's packed bytes are changed, the folder at the end is whole."""
    content = bytearray(zip_of())
    name_size, extra_size = struct.unpack_from("<HH", content, 26)
    start = 30 + name_size + extra_size
    content[start + 10 : start + 20] = b"\0" * 10
    return bytes(content)


def with_method(method: int) -> bytes:
    """The program claims to be packed in a way that zipfile does not know."""
    content = bytearray(zip_of())
    struct.pack_into("<H", content, 8, method)
    struct.pack_into("<H", content, content.index(b"PK\x01\x02") + 10, method)
    return bytes(content)


def encrypted() -> bytes:
    content = bytearray(zip_of())
    struct.pack_into("<H", content, 6, 1)
    struct.pack_into("<H", content, content.index(b"PK\x01\x02") + 8, 1)
    return bytes(content)


HOSTILE = {
    "parent": (zip_of(("../../evil", "x")), "'../../evil', which would leave its folder"),
    "parent-inside": (zip_of(("tiny/../../evil", "x")), "which would leave its folder"),
    "absolute": (zip_of(("/etc/evil", "x")), "'/etc/evil', which would leave its folder"),
    "backslash": (zip_of(("tiny\\..\\evil", "x")), "which would leave its folder"),
    "link": (zip_of((link("tiny/lib"), "/etc")), "holds a symbolic link, 'tiny/lib'"),
    "twice": (zip_of(("tiny/bin/tritonserver", "other")), "holds 'tiny/bin/tritonserver' twice"),
    "damaged": (damaged(), "is damaged at tiny/bin/tritonserver"),
    "odd-method": (with_method(98), "is damaged at tiny/bin/tritonserver"),
    "encrypted": (encrypted(), "is damaged at tiny/bin/tritonserver"),
    "truncated": (zip_of()[:-200], "tiny-1.0-py3-none-any.whl is not a"),
    "not-a-zip": (b"<html>blocked by your provider</html>" * 99, "tiny-1.0-py3-none-any.whl is not a"),
    "empty": (b"", "tiny-1.0-py3-none-any.whl is not a"),
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_wheel_is_refused_and_leaves_no_tree(tiny_world, name):
    content, message = HOSTILE[name]
    tiny_world.use_wheel(content)
    tiny_world.write_recipes(
        layout="[{wheel: tiny, files: tiny/bin/*, strip: 2, to: bin, executable: true}]"
    )
    done = tiny_world.build()
    assert done.code == 5, done.text
    assert message in done.err
    assert "hint: " in done.err
    assert not (tiny_world.work / "stage").exists()
    assert not list(tiny_world.work.glob("stage.*"))
    assert not list(tiny_world.cache.glob("wheels/.fetch-*"))
    assert not list(tiny_world.cli.folder.rglob("evil"))


def test_wrong_checksum_says_both_and_keeps_nothing(tiny_world):
    pinned, content = tiny_world.sha256, zip_of()
    next(tiny_world.wheels.iterdir()).write_bytes(content)
    done = tiny_world.build()
    assert done.code == 5, done.text
    assert "tiny-1.0-py3-none-any.whl is not what the recipe pins" in done.err
    assert f"expected sha256 {pinned}" in done.err
    assert f"got      sha256 {hashlib.sha256(content).hexdigest()}" in done.err
    tiny_world.assert_nothing_half_written()


def test_wheel_that_is_damaged_says_which_file_to_delete_and_that_helps(tiny_world):
    tiny_world.use_wheel(damaged())
    done = tiny_world.build()
    (kept,) = tiny_world.cache.glob("wheels/*/*.whl")
    assert f"hint: delete {kept} and run again" in done.err


paths = st.lists(
    st.sampled_from(["", ".", "..", "a", "b.so", "...", " ", "\\", "a\\..\\b", "C:", "ä"]),
    min_size=1,
    max_size=6,
).map("/".join)


@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=300, deadline=None
)
@given(paths)
def test_no_accepted_name_leaves_the_folder(tmp_path, name):
    path = tmp_path / "x.whl"
    if name.rstrip("/") == "":
        name += "a"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(name, "x")
    leaves = posixpath.normpath(name).split("/")[0] in ("", "..")
    try:
        opened = WheelArchive(path)
    except SourceError:
        return
    assert not leaves
    accepted = opened.names
    opened.close()
    target = Path("/target")
    for one in accepted:
        assert (target / posixpath.normpath(one)).is_relative_to(target)
        assert ".." not in one.split("/")
        assert not one.startswith("/")

"""What is installed from a wheel works without the checkout."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

import tritonbuild

CHECKOUT = Path(tritonbuild.__file__).parent.parent


def run(*argv: str | Path, cwd: Path) -> str:
    done = subprocess.run(
        [*map(str, argv)], cwd=cwd, stdin=subprocess.DEVNULL, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project's wheel; pip fetches what builds it, from the user's index."""
    folder = tmp_path_factory.mktemp("wheel")
    pip = (sys.executable, "-m", "pip", "--quiet")
    run(*pip, "wheel", "--no-deps", "--wheel-dir", folder, CHECKOUT, cwd=folder)
    (found,) = folder.glob("tritonbuild-*.whl")
    return found


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The `tritonbuild` command of a fresh environment; dependencies are lent by this one."""
    folder = tmp_path_factory.mktemp("venv")
    run(sys.executable, "-m", "venv", "--without-pip", folder, cwd=folder)
    pip = (sys.executable, "-m", "pip", "--quiet", "--python", folder / "bin/python")
    run(*pip, "install", "--no-deps", "--no-index", wheel, cwd=folder)
    site = sysconfig.get_path("purelib", vars={"base": str(folder), "platbase": str(folder)})
    (Path(site) / "lent.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return folder / "bin/tritonbuild"


@pytest.mark.network
@pytest.mark.parametrize("kind", ["recipes", "patches", "templates"])
def test_wheel_carries_every_data_file(wheel: Path, kind: str) -> None:
    inside = {
        name.removeprefix("tritonbuild/_data/")
        for name in zipfile.ZipFile(wheel).namelist()
        if name.startswith(f"tritonbuild/_data/{kind}/")
    }
    listed = run(
        "git", "ls-files", "--cached", "--others", "--exclude-standard", kind, cwd=CHECKOUT
    )
    assert inside == {name for name in listed.splitlines() if (CHECKOUT / name).is_file()}
    assert inside


@pytest.mark.network
def test_wheel_carries_licence_types_and_nothing_of_the_tests(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert any(name.endswith("dist-info/licenses/LICENSE") for name in names)
    assert "tritonbuild/py.typed" in names
    tops = {name.split("/")[0] for name in names}
    assert tops == {"tritonbuild", f"tritonbuild-{tritonbuild.__version__}.dist-info"}
    assert not any("__pycache__" in name for name in names)


@pytest.mark.network
def test_installed_command_works_outside_of_the_checkout(installed: Path, tmp_path: Path) -> None:
    where = run(
        installed.parent / "python", "-c", "import tritonbuild; print(tritonbuild.__file__)",
        cwd=tmp_path,
    )  # fmt: skip
    assert not Path(where.strip()).is_relative_to(CHECKOUT), where
    assert tritonbuild.__version__ in run(installed, "--version", cwd=tmp_path)
    assert "orangepi5b" in run(installed, "list", "boards", cwd=tmp_path)
    run(installed, "plan", "--board", "orangepi5b", "--from", "wheel", cwd=tmp_path)
    script = ("--build-dir", "/build", "--output", tmp_path)
    run(installed, "render", "--board", "orangepi5b", *script, cwd=tmp_path)
    assert os.access(tmp_path / "cmake_build", os.X_OK)


def test_every_dependency_is_explained() -> None:
    """docs/dependencies.md and pyproject.toml name the same packages."""
    declared = (CHECKOUT / "pyproject.toml").read_text(encoding="utf-8")
    declared = declared.replace('{ include-group = "test" }', "")
    arrays = re.findall(
        r"^(?:requires|dependencies|grpc|test|dev) = \[(?:\n(?s:(.*?))\n|(.*))\]$",
        declared, re.MULTILINE,
    )  # fmt: skip
    names = {name for array in arrays for name in re.findall(r'"([A-Za-z][\w.-]*)', "".join(array))}
    page = (CHECKOUT / "docs/dependencies.md").read_text(encoding="utf-8")
    python_part = page.split("## Programs on the host")[0]
    cells = re.findall(r"^\| ([^|]+) \|", python_part, re.MULTILINE)
    explained = {name for cell in cells for name in cell.split(", ")} - {"package", "---"}
    assert explained == names

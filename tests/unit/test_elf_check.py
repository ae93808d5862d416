"""The ELF check on real files, made by the system's compiler for the machine that runs the test."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tritonbuild.arch import Arch
from tritonbuild.errors import AssembleError
from tritonbuild.stage.elf import ElfReport, check_tree, raise_if_bad
from tritonbuild.stage.elffile import NeededVersion, parse_version, read_elf
from tritonbuild.stage.libraries import SystemLibraries

NATIVE = Arch.native() or Arch.AMD64
OTHER = Arch.ARM64 if NATIVE is Arch.AMD64 else Arch.AMD64

EMPTY_SYSTEM = SystemLibraries("recipe", {}, {"GLIBC": "2.36", "GLIBCXX": "3.4.30"})
SYSTEM = SystemLibraries(
    "recipe",
    {"libc.so.6": "libc6", "libm.so.6": "libc6", NATIVE.to_loader(): "libc6"},
    {"GLIBC": "9.99", "GLIBCXX": "9.9.99"},
)


@pytest.fixture(scope="session", autouse=True)
def compiler(require_or_skip):
    require_or_skip(shutil.which("gcc"), "gcc")


@pytest.fixture
def tree(tmp_path):
    path = tmp_path / "tree"
    path.mkdir()
    return path


def compile_c(out: Path, *args: str, source: str = "") -> Path:
    """Compile one C file; nothing but what `args` name is linked."""
    out.parent.mkdir(parents=True, exist_ok=True)
    command = ["gcc", "-x", "c", "-", "-x", "none", "-O0", "-fPIC", "-o", str(out), *args]
    subprocess.run(command, input=source.encode(), check=True, timeout=60)
    return out


def make_library(out: Path, *needed: Path, rpath: str | None = None, tags: str = "new") -> Path:
    """Make a shared library named after its file that needs others and nothing of the system."""
    run_path = [
        f"-Wl,-rpath,{rpath}",
        f"-Wl,--{'enable' if tags == 'new' else 'disable'}-new-dtags",
    ]
    return compile_c(
        out, "-shared", "-nostdlib", f"-Wl,-soname,{out.name}", "-Wl,--no-as-needed",
        *(run_path if rpath is not None else []), *map(str, needed),
    )  # fmt: skip


def check(tree: Path, system: SystemLibraries = EMPTY_SYSTEM, arch: Arch = NATIVE, **more):
    return check_tree(tree, arch=arch, system=system, **more)


def said(report: ElfReport) -> list[tuple[str, str]]:
    return [(problem.file, problem.what) for problem in report.problems]


@pytest.fixture(scope="module")
def is_loadable(tmp_path_factory):
    """The judge: what the machine's own loader says of a file and all that it needs."""
    program = compile_c(tmp_path_factory.mktemp("loader") / "x", source="int main(void) {}")
    loader = read_elf(program).interpreter

    def ask(path: Path) -> bool:
        env = {"LC_ALL": "C"}
        done = subprocess.run(
            [loader, "--list", path], env=env, capture_output=True, text=True, check=False
        )
        return done.returncode == 0 and "not found" not in done.stdout

    return ask


# --- libraries -----------------------------------------------------------------------------------


@pytest.mark.parametrize("origin", ["$ORIGIN", "${ORIGIN}"])
def test_chain_through_run_paths_is_found(tree, origin, is_loadable):
    last = make_library(tree / "lib/deep/liblast.so.1")
    middle = make_library(tree / "lib/libmiddle.so.1", last, rpath=f"{origin}/deep")
    first = make_library(tree / "backends/x/libfirst.so", middle, rpath=f"{origin}/../../lib")
    assert is_loadable(first)
    report = check(tree)
    assert said(report) == []
    assert report.files == 3
    assert report.system_libraries == {}


def test_libraries_that_need_each_other_are_fine(tree):
    one = make_library(tree / "lib/libone.so", rpath="$ORIGIN")
    two = make_library(tree / "lib/libtwo.so", one, rpath="$ORIGIN")
    make_library(tree / "lib/libone.so", two, rpath="$ORIGIN")
    assert read_elf(one).needed == ("libtwo.so",)
    assert said(check(tree)) == []


def test_library_beside_the_file_is_not_found_without_run_path(tree):
    other = make_library(tree / "lib/libother.so.1")
    make_library(tree / "lib/libuser.so", other)
    report = check(tree)
    what = "needs libother.so.1, which is neither in the tree nor in the board's system"
    assert said(report) == [("lib/libuser.so", what)]
    assert "lib/libother.so.1 is there, but no run path leads to it" in report.problems[0].hint


def test_missing_library_says_where_it_would_belong(tree, tmp_path):
    gone = make_library(tmp_path / "libgone.so.7")
    make_library(tree / "lib/libuser.so", gone, rpath="$ORIGIN")
    (problem,) = check(tree).problems
    assert problem.file == "lib/libuser.so"
    assert "needs libgone.so.7" in problem.what
    assert "base_libraries" in problem.hint


def test_library_that_can_be_installed_is_no_problem_but_is_listed(tree, tmp_path):
    bundled = make_library(tmp_path / "libpython3.10.so.1.0")
    make_library(tree / "stub.so", bundled, rpath="$ORIGIN/lib")
    report = check(tree, installable={"libpython3.10.so.1.0": "libpython3.10"})
    assert said(report) == []
    assert report.to_install == {"libpython3.10.so.1.0": "libpython3.10"}
    make_library(tree / "lib/libpython3.10.so.1.0")
    assert check(tree, installable=report.to_install).to_install == {}


def test_link_inside_the_tree_is_followed(tree):
    library = make_library(tree / "lib/libx.so.1")
    make_library(tree / "bin/user.so", library, rpath="$ORIGIN/../lib")
    library.rename(tree / "lib/libx.so.1.2.3")
    assert len(check(tree).problems) == 1
    library.symlink_to("libx.so.1.2.3")
    report = check(tree)
    assert (said(report), report.files) == ([], 2)


def test_link_out_of_the_tree_is_not_followed(tree, tmp_path):
    outside = make_library(tmp_path / "outside/libx.so")
    make_library(tree / "lib/user.so", outside, rpath="$ORIGIN")
    (tree / "lib/libx.so").symlink_to(outside)
    report = check(tree)
    assert report.files == 1
    assert [problem.file for problem in report.problems] == ["lib/user.so"]


def test_needed_by_path_is_refused(tree):
    # Without a soname the linker notes the path that it was given.
    bare = compile_c(tree / "lib/libbare.so", "-shared", "-nostdlib")
    make_library(tree / "lib/user.so", bare, rpath="$ORIGIN")
    ((file, what),) = said(check(tree))
    assert file == "lib/user.so"
    assert "by its path" in what


# --- DT_RPATH against DT_RUNPATH, as ld.so does it -------------------------------------------------


def make_inherited(tree: Path, tags: str, own: str | None = None) -> None:
    """bin/user.so leads to lib and deep; lib/libmiddle.so needs deep/liblast.so without saying."""
    last = make_library(tree / "deep/liblast.so")
    middle = make_library(tree / "lib/libmiddle.so", last, rpath=own)
    make_library(tree / "bin/user.so", middle, rpath="$ORIGIN/../lib:$ORIGIN/../deep", tags=tags)


def test_rpath_of_the_loader_is_inherited(tree, is_loadable):
    make_inherited(tree, "old")
    assert is_loadable(tree / "bin/user.so")
    assert read_elf(tree / "bin/user.so").rpath == ("$ORIGIN/../lib", "$ORIGIN/../deep")
    assert said(check(tree)) == []


def test_runpath_of_the_loader_is_not_inherited(tree, is_loadable):
    make_inherited(tree, "new")
    assert not is_loadable(tree / "bin/user.so")
    assert read_elf(tree / "bin/user.so").runpath == ("$ORIGIN/../lib", "$ORIGIN/../deep")
    assert [problem.file for problem in check(tree).problems] == ["lib/libmiddle.so"]


def test_runpath_of_the_file_itself_stops_inheritance(tree, is_loadable):
    make_inherited(tree, "old", own="$ORIGIN")
    assert not is_loadable(tree / "bin/user.so")
    assert [problem.file for problem in check(tree).problems] == ["lib/libmiddle.so"]


def test_every_loader_must_lead_to_the_library(tree, is_loadable):
    make_inherited(tree, "old")
    make_library(tree / "bin/two.so", tree / "lib/libmiddle.so", rpath="$ORIGIN/../lib", tags="old")
    assert is_loadable(tree / "bin/user.so")
    assert not is_loadable(tree / "bin/two.so")
    assert [problem.file for problem in check(tree).problems] == ["lib/libmiddle.so"]


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        pytest.param("/usr/lib/extra", "is absolute", id="absolute"),
        pytest.param("$ORIGIN/../../../x.libs", "leads out of the tree", id="out"),
        pytest.param("../lib", "depends on the folder", id="relative"),
        pytest.param("$ORIGIN:", "depends on the folder", id="empty"),
        pytest.param("$ORIGINAL/lib", "leads out", id="not-a-token"),
    ],
)
@pytest.mark.parametrize("tags", ["old", "new"])
def test_run_path_that_breaks_a_moved_tree_is_refused(tree, entry, words, tags):
    make_library(tree / "lib/libx.so", rpath=entry, tags=tags)
    ((file, what),) = said(check(tree))
    assert file == "lib/libx.so"
    assert words in what


def test_run_path_may_come_back_into_the_tree_from_a_deep_folder(tree):
    make_library(tree / "a/b/c/libx.so", rpath="$ORIGIN/../../../lib:$ORIGIN")
    assert said(check(tree)) == []


# --- machine ---------------------------------------------------------------------------------------


def test_file_for_another_machine_is_refused_and_not_used(tree):
    x = make_library(tree / "lib/libx.so")
    make_library(tree / "lib/user.so", x, rpath="$ORIGIN")
    report = check(tree, arch=OTHER)
    what = f"is for {NATIVE}, the board is {OTHER}"
    assert said(report) == [("lib/libx.so", what), ("lib/user.so", what)]
    assert report.files == 2


def test_library_for_another_machine_does_not_satisfy_a_need(tree):
    x = make_library(tree / "lib/libx.so")
    make_library(tree / "lib/user.so", x, rpath="$ORIGIN")
    content = bytearray(x.read_bytes())
    content[18:20] = (8).to_bytes(2, "little")  # e_machine = EM_MIPS
    x.write_bytes(content)
    first, second = check(tree).problems
    assert first.what == f"is for EM_MIPS, the board is {NATIVE}"
    assert "needs libx.so" in second.what
    assert second.hint == f"lib/libx.so cannot be used: it {first.what}"


@pytest.mark.parametrize("length", [4, 16, 64, 300, 2000])
def test_truncated_file_is_a_problem_not_a_crash(tree, length):
    path = compile_c(tree / "lib/libx.so", "-shared")
    path.write_bytes(path.read_bytes()[:length])
    ((file, what),) = said(check(tree, SYSTEM))
    assert file == "lib/libx.so"
    assert what.startswith("not a readable ELF file")


def test_every_single_broken_byte_is_survived(tree):
    """Whatever a damaged header says, the check ends with an answer."""
    path = make_library(tree / "lib/libx.so", rpath="$ORIGIN")
    good = path.read_bytes()
    for index in range(4, 700, 3):
        content = bytearray(good)
        content[index] ^= 0xFF
        path.write_bytes(content)
        assert check(tree).files == 1


def test_scripts_and_empty_files_are_not_counted(tree):
    (tree / "model.py").write_text("print()")
    (tree / "empty.so").touch()
    (tree / "dir.so").mkdir()
    report = check(tree)
    assert (report.files, report.problems) == (0, ())


# --- symbol versions -------------------------------------------------------------------------------

USES_LIBC = "#include <stdio.h>\nvoid use(char *text) { puts(text); }"


def test_needed_glibc_is_compared_as_a_number(tree):
    compile_c(tree / "lib/libx.so", "-shared", source=USES_LIBC)
    report = check(tree, SYSTEM)
    assert said(report) == []
    assert report.system_libraries == {"libc.so.6": "libc6"}
    assert report.highest["GLIBC"].file == "lib/libx.so"
    needed = report.highest["GLIBC"].version
    # 2.17 on arm64, 2.2.5 on amd64: both are older than 2.100 and newer than 2.1.
    for board, good in (("2.100", True), (needed, True), ("2.1", False), ("1.99", False)):
        system = SystemLibraries("recipe", SYSTEM.packages, {"GLIBC": board})
        what = f"needs GLIBC_{needed}, the board has GLIBC_{board}"
        assert said(check(tree, system)) == ([] if good else [("lib/libx.so", what)])


def make_versioned(out: Path, script: str, source: str) -> Path:
    path = out.with_name("script.map")
    out.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(script)
    compile_c(
        out, "-shared", "-nostdlib", f"-Wl,-soname,{out.name}", f"-Wl,--version-script={path}",
        source=source,
    )  # fmt: skip
    path.unlink()
    return out


def test_only_the_highest_of_many_versions_is_named(tree, tmp_path):
    # The highest is neither the first nor the last in the file.
    script = "GLIBC_2.9 { a; };\nGLIBC_2.40 { b; } GLIBC_2.9;\nGLIBC_2.31 { c; } GLIBC_2.40;"
    source = "void a(void) {}\nvoid b(void) {}\nvoid c(void) {}"
    library = make_versioned(tmp_path / "libfake.so", script, source)
    compile_c(
        tree / "lib/libx.so", "-shared", "-nostdlib", str(library),
        source="void a(void), b(void), c(void);\nvoid use(void) { a(); b(); c(); }",
    )  # fmt: skip
    system = SystemLibraries("recipe", {"libfake.so": "fake"}, {"GLIBC": "2.5"})
    report = check(tree, system)
    assert said(report) == [("lib/libx.so", "needs GLIBC_2.40, the board has GLIBC_2.5")]
    assert report.highest["GLIBC"].version == "2.40"


def test_packed_relocations_count_as_glibc_2_36(tree, require_or_skip):
    path = compile_c(
        tree / "lib/libx.so", "-shared", "-Wl,-z,pack-relative-relocs",
        source=USES_LIBC + "\nchar *a = \"x\"; char **b = &a;",
    )  # fmt: skip
    packed = NeededVersion("libc.so.6", "GLIBC_ABI_DT_RELR")
    require_or_skip(packed in read_elf(path).needed_versions, "a linker that packs relocations")
    for board, count in (("2.35", 1), ("2.36", 0)):
        system = SystemLibraries("recipe", SYSTEM.packages, {"GLIBC": board})
        assert len(check(tree, system).problems) == count


def test_library_of_the_tree_must_define_the_version(tree):
    script, source = "V_1 { one; };\nV_2 { two; } V_1;", "void one(void) {}\nvoid two(void) {}"
    library = make_versioned(tree / "lib/libx.so", script, source)
    assert read_elf(library).defined_versions == {"V_1", "V_2"}
    compile_c(
        tree / "lib/user.so", "-shared", "-nostdlib", str(library), "-Wl,-rpath,$ORIGIN",
        source="void two(void); void use(void) { two(); }",
    )  # fmt: skip
    assert said(check(tree)) == []
    make_versioned(library, "V_1 { one; two; };", source)
    assert said(check(tree)) == [("lib/user.so", "needs V_2, which lib/libx.so does not have")]


# --- a real root -----------------------------------------------------------------------------------


@pytest.fixture
def root(tmp_path):
    """A root with this machine's own libc, its links as Debian has them."""
    root = tmp_path / "root"
    folder = root / "usr/lib" / NATIVE.to_multiarch()
    folder.mkdir(parents=True)
    (root / "lib").symlink_to("usr/lib")
    for name in ("libc.so.6", "libm.so.6", "libgcc_s.so.1", "libstdc++.so.6"):
        found = subprocess.run(
            ["gcc", f"-print-file-name={name}"], check=True, capture_output=True, text=True
        )
        real = Path(found.stdout.strip()).resolve()
        shutil.copy(real, folder / real.name)
        if real.name != name:
            # Absolute: must be read as a path in the root.
            (folder / name).symlink_to(f"/lib/{NATIVE.to_multiarch()}/{real.name}")
    program = compile_c(tmp_path / "program", source="int main(void) { return 0; }")
    loader = Path(read_elf(program).interpreter or "")
    (root / "lib64").mkdir(exist_ok=True)
    target = root / str(loader).lstrip("/")
    shutil.copy(loader.resolve(), target)
    shutil.copy(loader.resolve(), folder / loader.name)
    return root


@pytest.fixture
def packages_json(tmp_path):
    triplet = NATIVE.to_multiarch()
    files = {
        "libc6": [f"lib/{triplet}/libc.so.6", f"lib/{triplet}/libm.so.6"],
        "libstdc++6": [f"usr/lib/{triplet}/libstdc++.so.6"],
    }
    packages = {name: {"version": "1", "files": paths} for name, paths in files.items()}
    path = tmp_path / "packages.json"
    path.write_text(json.dumps({"packages": packages}))
    return path


def test_root_tells_packages_and_versions(root, packages_json):
    system = SystemLibraries.from_root(root, packages_json, NATIVE)
    assert system.source == "root"
    assert system.packages["libc.so.6"] == "libc6"
    assert system.packages["libstdc++.so.6"] == "libstdc++6"
    assert system.packages["libgcc_s.so.1"] == ""
    confstr = os.confstr("CS_GNU_LIBC_VERSION") or ""
    # Symbol versions are only added by releases that add symbols, so they are not newer.
    glibc, own = parse_version(f"GLIBC_{system.versions['GLIBC']}"), confstr.split()[-1]
    assert glibc is not None
    assert (2, 17) <= glibc[1] <= parse_version(f"GLIBC_{own}")[1]
    assert system.versions["GLIBCXX"].startswith("3.4.")
    assert system.versions["CXXABI"].startswith("1.3.")


def test_program_against_a_root(root, packages_json, tree):
    compile_c(tree / "bin/program", source=USES_LIBC + '\nint main(void) { use(""); }')
    system = SystemLibraries.from_root(root, packages_json, NATIVE)
    report = check(tree, system)
    assert said(report) == []
    assert report.system_libraries == {"libc.so.6": "libc6"}
    raise_if_bad(report)


def test_version_that_the_roots_library_lacks_is_a_problem(root, packages_json, tree, tmp_path):
    """Versions that are not numbers are looked up in the real file."""
    folder = root / "usr/lib" / NATIVE.to_multiarch()
    library = make_versioned(tmp_path / "libx.so", "X_NEW { two; };", "void two(void) {}")
    compile_c(
        tree / "lib/user.so", "-shared", "-nostdlib", str(library),
        source="void two(void); void use(void) { two(); }",
    )  # fmt: skip
    shutil.copy(library, folder)
    system = SystemLibraries.from_root(root, packages_json, NATIVE)
    assert said(check(tree, system)) == []
    make_versioned(folder / "libx.so", "X_OLD { two; };", "void two(void) {}")
    what = "needs X_NEW, which the board's libx.so does not have"
    assert said(check(tree, system)) == [("lib/user.so", what)]


def test_links_of_a_root_never_lead_to_this_machine(root, packages_json, tmp_path):
    """The host has the file that each link names; the root does not."""
    folder = root / "usr/lib" / NATIVE.to_multiarch()
    outside = make_library(tmp_path / "outside/libout.so")
    (folder / "libout.so").symlink_to(outside)
    (folder / "libup.so").symlink_to("../" * 20 + str(outside).lstrip("/"))
    (folder / "libloop.so").symlink_to("libloop.so")
    (root / "etc").mkdir()
    (root / "etc/ld.so.conf.d").symlink_to("/nowhere")
    names = SystemLibraries.from_root(root, packages_json, NATIVE).packages
    assert "libm.so.6" in names
    assert not {"libout.so", "libup.so", "libloop.so"} & set(names)


def test_folders_of_ld_so_conf_are_searched(root, packages_json, tmp_path):
    make_library(root / "opt/vendor/libvendor.so")
    make_library(root / "opt/hidden/libhidden.so")
    (root / "etc/ld.so.conf.d").mkdir(parents=True)
    (root / "etc/ld.so.conf.d/v.conf").write_text("# vendor\n/opt/vendor\n")
    names = SystemLibraries.from_root(root, packages_json, NATIVE).packages
    assert "libvendor.so" in names
    assert "libhidden.so" not in names


def test_root_of_another_architecture_is_refused(root, packages_json):
    folder = root / "usr/lib"
    (folder / NATIVE.to_multiarch()).rename(folder / OTHER.to_multiarch())
    for link in folder.glob("*/*.so.*"):
        if link.is_symlink():
            name = str(link.readlink()).replace(NATIVE.to_multiarch(), OTHER.to_multiarch())
            link.unlink()
            link.symlink_to(name)
    with pytest.raises(AssembleError, match=f"not a root for {OTHER}"):
        SystemLibraries.from_root(root, packages_json, OTHER)


def test_interpreter_must_be_in_the_system(tree):
    compile_c(tree / "bin/program", "-Wl,--dynamic-linker=/lib/ld-musl.so.1", source="int main(){}")
    ((file, what),) = said(check(tree, SYSTEM))
    assert file == "bin/program"
    assert "asks for the interpreter /lib/ld-musl.so.1" in what


def test_static_program_is_fine(tree):
    compile_c(tree / "bin/program", "-static", "-nostdlib", source="void _start(void) {}")
    report = check(tree)
    assert (report.files, report.problems) == (1, ())


# --- report ----------------------------------------------------------------------------------------


def test_recipe_gives_what_the_plan_says():
    details = {"glibc": "2.35", "glibcxx": "3.4.30", "base_libraries": {"libz.so.1": "zlib1g"}}
    system = SystemLibraries.from_recipe(details)
    assert system.source == "recipe"
    assert system.packages == {"libz.so.1": "zlib1g"}
    assert system.versions == {"GLIBC": "2.35", "GLIBCXX": "3.4.30"}


def test_error_fits_one_screen_and_the_json_has_all(tree, tmp_path):
    gone = make_library(tmp_path / "libgone.so")
    user = make_library(tree / "lib/user00.so", gone)
    for number in range(1, 30):
        shutil.copy(user, tree / f"lib/user{number:02}.so")
    report = check(tree)
    with pytest.raises(AssembleError) as caught:
        raise_if_bad(report)
    lines = caught.value.message.splitlines()
    assert lines[0] == "30 problems in the assembled tree:"
    assert len(lines) == 22
    assert lines[1].startswith("  lib/user00.so: needs libgone.so")
    assert lines[-1] == "  and 10 more"
    assert caught.value.exit_code == 9
    document = json.loads(report.to_json())
    assert len(document["problems"]) == 30
    assert document["source"] == "recipe"
    assert document["arch"] == str(NATIVE)

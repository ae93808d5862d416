"""The shipped boards and systems: what each comes to, and what is refused by name."""

from __future__ import annotations

import json
import os
from pathlib import Path, PurePosixPath

import pytest

from tritonbuild.cli.planning import format_plan
from tritonbuild.errors import RecipeError, UnsupportedError, UsageError
from tritonbuild.plan.check import check_book
from tritonbuild.plan.fitness import find_glibc
from tritonbuild.plan.layout import SourceLayout
from tritonbuild.plan.make import make_plan
from tritonbuild.plan.model import THIS_MACHINE, Executor, Machine, Request, Setting, StepKind
from tritonbuild.plan.select import lineage
from tritonbuild.recipe.fields import ProviderKind
from tritonbuild.recipe.load import RecipeBook
from tritonbuild.recipe.model import BoardLimit, WheelFile

GOLDEN = Path(__file__).parents[1] / "golden" / "plans"
BOOK = RecipeBook((Path(__file__).parents[2] / "recipes",))
BOARDS = BOOK.names("boards")
JETSONS = [name for name in BOARDS if BOOK.board(name).platform == "igpu"]
SINGLE_CORES = [n for n in BOARDS if (npu := BOOK.board(n).npu) is not None and npu.cores == 1]
WORK_DIR = SourceLayout.of_work_dir(PurePosixPath("/w"))


def make(board: str, *, book=BOOK, machine: Machine | None = None, **request):
    layout = None if request.get("provider") is ProviderKind.WHEEL else WORK_DIR
    return make_plan(book, Request(board, **request), layout=layout, machine=machine)


def arguments_of(plan, component: str) -> dict[str, str]:
    return {flag.name: flag.value for flag in plan.flags[component]}


# --- what each board comes to -----------------------------------------------------------------


def describe(board: str, system: str, provider: ProviderKind) -> str:
    """Return a plan, or why there is none, as text that a reviewer can read."""
    head = f"=== {board}, {system}, from {provider}"
    try:
        plan = make(board, os=system, provider=provider)
    except UsageError as err:
        return f"{head}\nerror: {err.message}\nhint: {err.hint}\n"
    # Reasons of steps are the recipes' own words, the same for each board.
    lines = [line for line in format_plan(plan, {}).splitlines() if not line.startswith("      ")]
    arguments = [
        f"  {component}: {flag.to_argument()}"
        for component, flags in plan.flags.items()
        for flag in flags
    ]
    more = ["", "cmake arguments:", *arguments] if arguments else []
    return "\n".join([head, *lines, *more]) + "\n"


@pytest.mark.parametrize("board", BOARDS)
def test_plans_of_a_board(board):
    """UPDATE_GOLDEN=1 writes the files anew: read the difference before you commit it."""
    path = GOLDEN / f"{board}.txt"
    text = "\n".join(
        describe(board, system, provider)
        for system in BOOK.board(board).os
        for provider in ProviderKind
    )
    if os.environ.get("UPDATE_GOLDEN") == "1":
        path.write_text(text, encoding="utf-8")
    assert text == path.read_text(encoding="utf-8"), "UPDATE_GOLDEN=1 pytest writes it anew"


def test_there_is_a_text_for_each_board_and_no_other():
    assert sorted(path.stem for path in GOLDEN.glob("*.txt")) == BOARDS


def test_boards_know_their_systems_and_people_know_what_is_there():
    assert {"rock5b", "orangepi3b", "rock3a", "raspberrypi5"} <= set(BOARDS)
    assert {"ubuntu-20.04", "ubuntu-24.04", "debian-13"} <= set(BOOK.names("os"))
    assert set(BOOK.board("generic-arm64").os) == set(BOOK.names("os"))
    assert SINGLE_CORES == ["orangepi3b", "rock3a"]
    assert JETSONS == ["jetson-orin-jetpack5", "jetson-orin-jetpack6", "jetson-xavier-jetpack5"]


@pytest.mark.parametrize("board", BOARDS)
def test_packages_are_named_for_every_system_of_a_board(board):
    """A system that a recipe forgets would get none, and the build would fail for want of them."""
    recipe = BOOK.board(board)
    for name in recipe.components:
        for part in lineage(BOOK, BOOK.component(name)):
            for packages in (
                part.source.apt_packages if part.source else {},
                part.source.runtime_packages if part.source else {},
            ):
                assert not packages or set(recipe.os) <= set(packages), part.name


@pytest.mark.parametrize("name", BOOK.names("components"))
def test_packages_of_a_component_are_named_for_every_system(name):
    source = BOOK.component(name).source
    for packages in (source.apt_packages, source.runtime_packages) if source else ():
        assert not packages or set(packages) == set(BOOK.names("os"))


# --- what does not go together ----------------------------------------------------------------

REFUSED = [
    pytest.param(
        ("jetson-orin-jetpack5", "--release", "r20.09", "-c", "tnn"),
        "tnn from source does not work on jetson-orin-jetpack5: its release, r20.09, knows no JetPack",
        "hint: build it for generic-arm64 with the same --os; it runs on the CPU",
        id="a release from before JetPack's switches",
    ),
    pytest.param(
        ("generic-arm64", "--os", "debian-13"),
        "core cannot be built with Python 3.13 (os/debian-13): this release makes the core's wheel "
        "with distutils",
        "take an --os with Python 3.8 to 3.11, or build with --executor native where",
        id="Python without distutils",
    ),
    pytest.param(
        ("generic-arm64", "--os", "ubuntu-24.04", "--from", "wheel"),
        "r23.12 has a python backend stub for Python 3.8, 3.9, 3.10, 3.11, and ubuntu-24.04 has "
        "Python 3.12",
        "hint: take --os debian-12 or ubuntu-22.04, or take the server alone: -c core\n",
        id="no stub for the Python",
    ),
    pytest.param(
        ("generic-arm64", "--os", "ubuntu-20.04", "--from", "wheel"),
        "nvidia-pytriton 0.5.0 is made for glibc 2.35 and newer, and ubuntu-20.04 has 2.31",
        "hint: take --os debian-12 or ubuntu-22.04, or build with --from source\n",
        id="glibc older than the wheels'",
    ),
    pytest.param(
        ("generic-arm64", "--os", "ubuntu-20.04", "--executor", "emulated"),
        "core cannot be built with CMake 3.16.3 (os/ubuntu-20.04): Triton's CMakeLists.txt ask for "
        "CMake 3.18",
        "put a newer CMake beside it with `pip install 'cmake>=3.25.2,<4'`",
        id="CMake of a root",
    ),
    pytest.param(
        ("orangepi3b", "-c", "rknn"),
        "rknn from source does not work on orangepi3b: the C++ backend binds each instance to an "
        "NPU core with rknn_set_core_mask",
        "hint: use --from wheel, whose Python-based rknn backend knows single cores, or leave rknn "
        "out\n",
        id="rknn on one core",
    ),
    pytest.param(
        ("jetson-orin-jetpack6", "--set", "core.TRITON_ENABLE_METRICS_GPU=ON"),
        "jetson-orin-jetpack6 needs core.TRITON_ENABLE_METRICS_GPU=OFF: there is no DCGM for Tegra",
        "hint: say core.TRITON_ENABLE_METRICS_GPU=OFF\n",
        id="GPU metrics on a Jetson",
    ),
    *(
        pytest.param(
            ("jetson-xavier-jetpack5", "--set", f"core.TRITON_ENABLE_{variable}=ON"),
            f"jetson-xavier-jetpack5 needs core.TRITON_ENABLE_{variable}=OFF: Triton does not "
            f"support {name} storage on a Jetson",
            f"hint: say core.TRITON_ENABLE_{variable}=OFF\n",
            id=f"{name} on a Jetson",
        )
        for variable, name in (("S3", "S3"), ("GCS", "GCS"), ("AZURE_STORAGE", "Azure"))
    ),
    pytest.param(
        ("jetson-orin-jetpack6", "--executor", "emulated"),
        "--executor emulated: a root of ubuntu-22.04 has no CUDA, which core.TRITON_ENABLE_GPU=ON "
        "needs",
        "hint: build on the board with --executor native, or add --base-image IMAGE with CUDA\n",
        id="CUDA in a root",
    ),
    pytest.param(
        ("jetson-orin-jetpack5", "--set", "onnxruntime.TRITON_ENABLE_ONNXRUNTIME_TENSORRT=ON"),
        "JetPack 5 does not support the TensorRT execution provider",
        "build without onnxruntime",
        id="TensorRT's provider on JetPack 5",
    ),
]


@pytest.mark.parametrize(("arguments", "error", "hint"), REFUSED)
def test_what_does_not_go_together_is_refused_and_says_what_does(cli, arguments, error, hint):
    done = cli("plan", "--board", *arguments)
    assert (done.code, done.out) == (2, "")
    assert f"error: {error}" in done.err or error in done.err
    assert hint in done.err


@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param(("generic-arm64", "--os", "debian-12"), id="the system of the hint"),
        pytest.param(
            ("generic-arm64", "--os", "debian-13", "--from", "wheel", "-c", "core"),
            id="server alone",
        ),
        pytest.param(("generic-arm64", "--os", "ubuntu-20.04", "--from", "source"), id="source"),
        pytest.param(("orangepi3b", "--from", "wheel", "-c", "rknn"), id="rknn from its wheel"),
        pytest.param(
            ("jetson-orin-jetpack6", "--executor", "emulated", "--base-image", "l4t-jetpack:r36"),
            id="an image with CUDA",
        ),
    ],
)
def test_what_hints_offer_comes_to_a_plan(cli, arguments):
    done = cli("plan", "--board", *arguments)
    assert done.code == 0, done.err


def test_render_refuses_by_name_too(cli, tmp_path):
    for options, wanted in (
        (("--enable-gpu-metrics",), "needs core.TRITON_ENABLE_METRICS_GPU=OFF: there is no DCGM"),
        (("--filesystem", "s3"), "needs core.TRITON_ENABLE_S3=OFF"),
    ):
        done = cli(
            "render", "--board", "jetson-orin-jetpack6", "--build-dir", "/b/build",
            "--output", tmp_path, *options,
        )  # fmt: skip
        assert done.code == 2
        assert f"error: jetson-orin-jetpack6 {wanted}" in done.err


# --- single-core NPUs -------------------------------------------------------------------------


@pytest.mark.parametrize("board", SINGLE_CORES)
def test_rknn_is_left_out_where_nobody_asked_for_it(cli, board):
    done = cli("plan", "--board", board)
    assert done.code == 0, done.err
    assert "components: core, ensemble, python, onnxruntime\n" in done.out
    assert "rknn is left out: the C++ backend" in done.out
    assert "instead: use --from wheel" in done.out
    named = cli("plan", "--board", board, "-c", "python")
    assert "left out" not in named.out, "who names components knows what is missing"
    wheel = cli("plan", "--board", board, "--from", "wheel")
    assert "components: core, ensemble, python, onnxruntime, rknn\n" in wheel.out
    assert "left out" not in wheel.out


@pytest.mark.parametrize("board", SINGLE_CORES)
def test_script_for_a_single_core_is_without_rknn(cli, tmp_path, board):
    done = cli("render", "--board", board, "--build-dir", "/b/build", "--output", tmp_path)
    assert done.code == 0, done.err
    assert "rknn" not in (tmp_path / "cmake_build").read_text()


# --- machines ---------------------------------------------------------------------------------


def focal(cmake: str, python: str = "3.8") -> Machine:
    return Machine("arm64", "ubuntu-20.04", "9.4.0", cmake, "2.31", python, THIS_MACHINE)


def test_cmake_of_a_machine_that_was_looked_at_counts():
    with pytest.raises(UnsupportedError, match=r"with CMake 3\.16\.3 \(this machine\)"):
        make("generic-arm64", executor=Executor.NATIVE, machine=focal("3.16.3"))
    plan = make("generic-arm64", executor=Executor.NATIVE, machine=focal("3.25.2"))
    assert plan.selection.os == "ubuntu-20.04"
    assert not any("CMake" in note for note in plan.notes)


def test_cmake_is_only_told_of_where_nobody_has_looked():
    plan = make("generic-arm64", os="ubuntu-20.04")
    [note] = [note for note in plan.notes if "CMake" in note]
    assert note.startswith("core with CMake 3.16.3 (os/ubuntu-20.04): ")
    assert "pip install 'cmake>=3.25.2,<4'" in note


def test_image_may_have_a_newer_cmake_and_it_is_said():
    image = {"executor": Executor.EMULATED, "base_image": "l4t-jetpack:r35"}
    notes = make("jetson-orin-jetpack5", **image).notes
    wanted = "core: Triton's CMakeLists.txt ask for CMake 3.18: l4t-jetpack:r35 has to have it"
    assert wanted in notes


def test_notes_of_a_system_are_told():
    for note in BOOK.operating_system("ubuntu-20.04").notes:
        assert f"ubuntu-20.04: {note}" in make("generic-arm64", os="ubuntu-20.04").notes
        assert f"ubuntu-20.04: {note}" not in make("generic-arm64").notes


def test_older_python_beside_the_systems_will_do():
    machine = Machine("arm64", "ubuntu-24.04", "13.3.0", "3.28.3", "2.39", "3.11", THIS_MACHINE)
    plan = make("generic-arm64", executor=Executor.NATIVE, machine=machine)
    assert plan.selection.os == "ubuntu-24.04"


@pytest.mark.parametrize("executor", list(Executor))
@pytest.mark.parametrize(("system", "wanted"), [("ubuntu-22.04", True), ("debian-12", False)])
def test_boosts_headers_come_along_where_the_systems_are_too_old(system, wanted, executor):
    request = Request("orangepi5b", os=system, executor=executor, components=("core",))
    layout = SourceLayout.of_build(executor, PurePosixPath("/w"))
    plan = make_plan(BOOK, request, layout=layout)
    scripts = [one for step in plan.steps for one in (step, *step.scripts)]
    configure = next(step for step in scripts if step.id == "configure-core")
    root = configure.environment.get("BOOST_ROOT")
    assert root == (str(layout.archive_dir("boost")) if wanted else None)
    fetch = next(step for step in scripts if step.id == "fetch-core")
    unpacked = [c.argv for c in fetch.commands if c.argv[0] == "tritonbuild_unpack"]
    assert [argv[2] for argv in unpacked] == ([root] if wanted else [])
    listed = [one["name"] for one in plan.find_step("sources").details["archives"]]
    assert ("boost" in listed) is wanted


def test_script_brings_boost_and_a_container_has_its_own(cli, tmp_path):
    common = ("--board", "generic-arm64", "--os", "ubuntu-22.04", "--output", tmp_path)
    done = cli("render", *common, "--build-dir", "/b/server/build")
    assert done.code == 0, done.err
    text = (tmp_path / "cmake_build").read_text()
    assert "export BOOST_ROOT=/b/server/build/archives/boost\n" in text
    assert "tritonbuild_unpack /b/server/build/archives/boost_1_80_0.tar.gz " in text
    done = cli("render", *common, "--container-build", "--server-dir", "/b/server")
    assert done.code == 0, done.err
    assert "BOOST_ROOT" not in (tmp_path / "cmake_build").read_text()


@pytest.mark.parametrize(
    ("tags", "glibc"),
    [
        ("manylinux_2_35_aarch64", (2, 35)),
        ("manylinux_2_17_aarch64.manylinux2014_aarch64", (2, 17)),
        ("manylinux2014_aarch64.manylinux_2_17_aarch64.manylinux_2_28_aarch64", (2, 17)),
        ("manylinux2014_aarch64", (2, 17)),
        ("any", None),
    ],
)
def test_glibc_that_a_wheel_is_for(tags, glibc):
    file = WheelFile(filename=f"x-1.0-py3-none-{tags}.whl", sha256="0" * 64)
    assert find_glibc(file) == glibc


# --- Jetson -----------------------------------------------------------------------------------


@pytest.mark.parametrize("board", JETSONS)
def test_switches_of_a_jetson(board):
    plan = make(board)
    core = arguments_of(plan, "core")
    assert core["TRITON_ENABLE_GPU"] == "ON"
    assert core["TRITON_MIN_COMPUTE_CAPABILITY"] == BOOK.board(board).cuda
    assert list(core)[-1] == "TRITON_IGPU_BUILD"
    assert core["TRITON_IGPU_BUILD"] == core["TRITON_ENABLE_TENSORRT"] == "ON"
    for name in ("METRICS_GPU", "GCS", "S3", "AZURE_STORAGE"):
        assert core[f"TRITON_ENABLE_{name}"] == "OFF"
    for component in ("python", "onnxruntime", "tensorrt"):
        backend = arguments_of(plan, component)
        assert backend["TRITON_ENABLE_GPU"] == "ON"
        assert backend["TRITON_ENABLE_MEMORY_TRACKER"] == "OFF"
    for step in plan.steps:
        if step.component is not None and step.kind is not StepKind.PATCH:
            assert step.environment["CUDACXX"] == "/usr/local/cuda/bin/nvcc", step.id
    text = "\n".join(plan.notes)
    for words in ("CUDA IPC", "asynchronous BLS", "NVDLA", "--backend-directory=", "3.25.2"):
        assert words in text


def test_compute_capabilities():
    found = {name: BOOK.board(name).cuda for name in JETSONS}
    assert set(found.values()) == {"7.2", "8.7"}
    assert found["jetson-xavier-jetpack5"] == "7.2"


@pytest.mark.parametrize("board", JETSONS)
def test_ready_made_libraries_of_a_jetson(board):
    plan = make(board, components=("pytorch", "tensorflow"))
    pytorch, tensorflow = arguments_of(plan, "pytorch"), arguments_of(plan, "tensorflow")
    assert pytorch["TRITON_PYTORCH_LIB_PATHS"] == "/opt/pytorch/lib"
    assert pytorch["TRITON_PYTORCH_ENABLE_TORCHTRT"] == "OFF"
    assert pytorch["TRITON_PYTORCH_ENABLE_TORCHVISION"] == "OFF"
    assert tensorflow["TRITON_TENSORFLOW_LIB_PATHS"] == "/opt/tensorflow"
    assert not any("DOCKER_IMAGE" in name for name in (*pytorch, *tensorflow))


def test_another_folder_of_libraries_goes_before_the_boards(cli, tmp_path):
    done = cli(
        "render", "--board", "jetson-orin-jetpack6", "--build-dir", "/b/build", "--output", tmp_path,
        "--backend", "pytorch", "--library-paths", "pytorch:/mine",
    )  # fmt: skip
    assert done.code == 0, done.err
    text = (tmp_path / "cmake_build").read_text()
    assert '"-DTRITON_PYTORCH_LIB_PATHS=/mine/lib"' in text
    assert "/opt/pytorch" not in text


def test_packages_of_pytorch_are_those_of_the_guide_for_jetson():
    packages = make("jetson-xavier-jetpack5", components=("pytorch",)).packages
    assert {"bc", "g++-8", "gcc-8", "clang-8", "lld-8", "libopenblas-dev"} <= set(packages)


@pytest.mark.parametrize("variant", ["archive", "upstream"])
def test_tensorrt_provider_is_off_with_the_archive_that_has_none(variant):
    plan = make("jetson-orin-jetpack6", variants={"onnxruntime": variant})
    flags = [f for f in plan.flags["onnxruntime"] if f.name == "TRITON_ENABLE_ONNXRUNTIME_TENSORRT"]
    assert [flag.value for flag in flags] == ["OFF" if variant == "archive" else "ON"]


def test_platform_is_upstreams_where_the_text_is_to_be_like_its(cli, tmp_path):
    common = ("--board", "jetson-orin-jetpack6", "--build-dir", "/b/build", "--output", tmp_path)
    for options, wanted in (((), True), (("--like-upstream",), False)):
        assert cli("render", *common, "--backend", "python", *options).code == 0
        text = (tmp_path / "cmake_build").read_text()
        assert ("MEMORY_TRACKER:BOOL=OFF" in text) is wanted
        assert ("TRITON_IGPU_BUILD" in text) is wanted
        assert ("CUDACXX" in text) is wanted


# --- recipes of one's own ---------------------------------------------------------------------


def with_board(**changes) -> RecipeBook:
    board = BOOK.board("generic-arm64").model_copy(update={"name": "mine", **changes})
    return RecipeBook(BOOK.folders).with_recipes("boards", [board])


def limit(component="onnxruntime", **more) -> BoardLimit:
    return BoardLimit(component=component, what="it is slow", **more)


def test_limit_is_told_where_its_component_and_provider_are():
    for given, request, told in (
        (limit(), {}, True),
        (limit(), {"components": ("python",)}, False),
        (limit(provider=ProviderKind.WHEEL), {}, False),
        (limit(provider=ProviderKind.WHEEL), {"provider": ProviderKind.WHEEL}, True),
    ):
        plan = make("mine", book=with_board(limits=(given,)), **request)
        assert ("onnxruntime on mine: it is slow" in plan.notes) is told


def test_component_that_another_needs_is_refused_as_well():
    book = with_board(limits=(limit("core", instead="take another board"),))
    with pytest.raises(
        UnsupportedError, match="core from source does not work on mine: it is slow"
    ):
        make("mine", book=book, components=("python",))


def test_board_on_which_nothing_works_says_so():
    every = BOOK.board("generic-arm64").components
    book = with_board(limits=tuple(limit(name, instead="elsewhere") for name in every))
    with pytest.raises(UnsupportedError, match="core from source does not work on mine"):
        make("mine", book=book)


@pytest.mark.parametrize(
    ("changes", "where"),
    [
        ({"limits": (limit("onxruntime"),)}, "limits"),
        ({"libraries": {"onxruntime": "/x"}}, "libraries"),
    ],
)
def test_mistyped_component_is_an_error(changes, where):
    wanted = f'board mine: {where} name the component "onxruntime", which does not exist; did you'
    with pytest.raises(RecipeError, match=wanted):
        make("mine", book=with_board(**changes))


def test_libraries_of_a_component_that_takes_none_are_an_error():
    with pytest.raises(
        RecipeError, match="libraries: python takes no ready-made libraries"
    ) as caught:
        make("mine", book=with_board(libraries={"python": "/x"}))
    assert caught.value.hint == "those that do: onnxruntime, pytorch, tensorflow"


def test_value_of_a_variant_takes_the_place_of_the_components_own():
    request = {"variants": {"onnxruntime": "docker"}, "settings": (
        Setting("core", "TRITON_ENABLE_GPU", "ON"),
    )}  # fmt: skip
    plan = make("generic-arm64", **request)
    names = [flag.name for flag in plan.flags["onnxruntime"]]
    assert len(names) == len(set(names))


# --- check ------------------------------------------------------------------------------------


def test_refusals_are_no_problem_and_can_be_read(cli):
    report = json.loads(cli("check", "--json").out)
    assert report["problems"] == []
    assert any(
        line.startswith(
            "generic-arm64: debian-13, r23.12, source: core cannot be built with Python"
        )
        for line in report["refused"]
    )
    text = cli("check").out
    assert f"{len(report['refused'])} of the plans are refused" in text


def test_board_that_comes_to_no_plan_at_all_is_a_problem(cli, tmp_path):
    folder = tmp_path / "o" / "boards"
    folder.mkdir(parents=True)
    text = cli("show", "boards/generic-arm64").out
    start = text.index("os:")
    end = text.index("release:")
    mine = text.replace("generic-arm64", "mine").replace(text[start:end], "os: [debian-13]\n")
    (folder / "mine.yaml").write_text(mine)
    done = cli("check", "--recipes", tmp_path / "o")
    assert done.code == 2
    assert "mine.yaml: none of its systems comes to a plan" in done.err
    assert check_book(BOOK).problems == []

"""Everything that rknn_yolov5_demo prints, line by line.

The lines are those of rknpu2's examples/rknn_yolov5_demo/src/main.cc at v1.5.2, of older ones, which
print tensors without strides, and of newer ones (SDK 1.6.0 on), which read the picture when the model
is loaded. librknnrt.so and librga.so print lines of their own between
them.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tritonbuild.errors import SmokeTestError

if TYPE_CHECKING:
    from collections.abc import Callable

_HINT = "look at all that the demo printed; it ends with the time of ten runs where all is well"


@dataclass(frozen=True)
class TensorInfo:
    """An input or output of the model.

    Attributes:
        index: Its place among the inputs or outputs.
        name: Its name.
        n_dims: How many dimensions it has; up to SDK 1.4.0 the demo prints the first four only.
        dims: Those that were printed.
        elements: How many numbers it has.
        format: Layout, such as NHWC.
        type: Type of its elements, such as INT8.
        zero_point: What stands for 0 in a quantised tensor.
        scale: What one step of a quantised tensor is worth.
    """

    index: int
    name: str
    n_dims: int
    dims: tuple[int, ...]
    elements: int
    format: str
    type: str
    zero_point: int
    scale: float


@dataclass(frozen=True)
class Detection:
    """An object that was found.

    Attributes:
        label: Its class.
        box: Left, top, right and bottom, in pixels of the picture.
        score: How sure the model is, from 0 to 1.
    """

    label: str
    box: tuple[int, int, int, int]
    score: float

    def __str__(self) -> str:
        return f"{self.label} @ ({' '.join(map(str, self.box))}) {self.score:.6f}"


@dataclass
class DemoOutput:
    """What a run of the demo printed.

    Attributes:
        box_threshold: Score below which the demo drops a box.
        nms_threshold: Overlap from which the demo takes two boxes for one object.
        image: The picture's path.
        image_size: Its width and height in pixels.
        sdk: Version of librknnrt.so, with its build in brackets.
        driver: Version of the kernel driver.
        inputs: The model's inputs.
        outputs: The model's outputs.
        layout: NHWC or NCHW.
        model_size: Height, width and channels that the model takes.
        once_ms: Milliseconds of the first run.
        labels: Path of the classes' names.
        detections: What was found.
        loops: How often the model was run for the average.
        average_ms: Milliseconds of one of these runs, with the search for boxes in its outputs.
        other: Lines that are not the demo's.
    """

    box_threshold: float = 0.0
    nms_threshold: float = 0.0
    image: str = ""
    image_size: tuple[int, int] = (0, 0)
    sdk: str = ""
    driver: str = ""
    inputs: tuple[TensorInfo, ...] = ()
    outputs: tuple[TensorInfo, ...] = ()
    layout: str = ""
    model_size: tuple[int, int, int] = (0, 0, 0)
    once_ms: float = 0.0
    labels: str = ""
    detections: tuple[Detection, ...] = ()
    loops: int = 0
    average_ms: float = 0.0
    other: list[str] = field(default_factory=list)

    @property
    def complaint(self) -> str | None:
        """The last error that librknnrt.so told, None where it told none."""
        return find_complaint(self.other)


def read_output(text: str) -> DemoOutput:
    """Return what a run printed.

    Args:
        text: Its standard output, and errors if they came together.

    Raises:
        SmokeTestError: It ends early, failed, is damaged, or is not the demo's.
    """
    if not text.strip():
        msg = "the demo printed nothing"
        raise SmokeTestError(msg, hint=_HINT)
    return _Reader(text.splitlines()).read()


# --- lines ------------------------------------------------------------------------------------

_NUMBER = r"-?(?:\d{1,12}\.\d{1,12}|\d{1,12}|nan|inf)"


@dataclass(frozen=True)
class _Line:
    """A line that the demo prints.

    Attributes:
        what: What it tells, for people.
        start: How it begins: a line that begins so and is otherwise different is damaged.
        pattern: All of it.
        several: It may come more than once.
        needed: It has to come.
    """

    what: str
    start: str
    pattern: str
    several: bool = False
    needed: bool = True


_TENSOR = (
    rf"  index=(\d{{1,9}}), name=(.*?), n_dims=(\d{{1,9}}), dims=\[([\d, ]*)\], n_elems=(\d{{1,9}}), size=\d+,"
    rf"(?: w_stride = \d+, size_with_stride=\d+,)? fmt=(\w+), type=(\w+), qnt_type=\w+, "
    rf"zp=(-?\d{{1,9}}), scale=({_NUMBER})"
)

_PICTURE = (
    _Line("the picture's name", "Read ", r"Read (.+) \.\.\."),
    _Line("the picture's size", "img width =", r"img width = (\d{1,9}), img height = (\d{1,9})"),
)
_MODEL = (
    _Line("that the model is loaded", "Loading mode", r"Loading mode\.\.\."),
    _Line(
        "the versions of SDK and driver", "sdk version:",
        r"sdk version: (\S.*?) driver version: ?(.*)",
    ),
    _Line(
        "how many inputs and outputs the model has", "model input num:",
        r"model input num: (\d{1,9}), output num: (\d{1,9})",
    ),
    _Line("a tensor", "  index=", _TENSOR, several=True),
    _Line("the model's layout", "model is ", r"model is (NHWC|NCHW) input fmt"),
    _Line(
        "the size that the model takes", "model input height=",
        r"model input height=(\d{1,9}), width=(\d{1,9}), channel=(\d{1,9})",
    ),
)  # fmt: skip
_THRESHOLDS = _Line(
    "its thresholds", "post process config:",
    rf"post process config: box_conf_threshold = ({_NUMBER}), nms_threshold = ({_NUMBER})",
)  # fmt: skip
_OBJECT = _Line(
    "an object", "",
    rf"(\S.*?) @ \((-?\d{{1,9}}) (-?\d{{1,9}}) (-?\d{{1,9}}) (-?\d{{1,9}})\) ({_NUMBER})",
    several=True, needed=False,
)  # fmt: skip
_RUNS = (
    _Line("the first run's time", "once run use", rf"once run use ({_NUMBER}) ms"),
    _Line("the classes' names", "loadLabelName", r"loadLabelName (.+)"),
    _OBJECT,
    _Line(
        "the average time", "loop count =",
        rf"loop count = (\d{{1,9}}) , average run  ?({_NUMBER}) ms",
    ),
)  # fmt: skip

# In the order in which the demo prints them.
_LINES = (_THRESHOLDS, *_PICTURE, *_MODEL, *_RUNS)
_LINES_SINCE_1_6 = (_THRESHOLDS, *_MODEL, *_PICTURE, *_RUNS)

# What rknn_api.h calls the numbers that its functions return.
_CODES = {
    -1: "RKNN_ERR_FAIL: the driver or the library gave up",
    -2: "RKNN_ERR_TIMEOUT: the NPU did not answer in time",
    -3: "RKNN_ERR_DEVICE_UNAVAILABLE: there is no NPU, or this user may not use it",
    -4: "RKNN_ERR_MALLOC_FAIL: no memory that the NPU can reach is left",
    -5: "RKNN_ERR_PARAM_INVALID: the library does not take what it was given",
    -6: "RKNN_ERR_MODEL_INVALID: the model is damaged, or newer than librknnrt.so",
    -7: "RKNN_ERR_CTX_INVALID: the library lost its own state",
    -8: "RKNN_ERR_INPUT_INVALID: the picture does not fit the model",
    -9: "RKNN_ERR_OUTPUT_INVALID: the outputs do not fit the model",
    -10: "RKNN_ERR_DEVICE_UNMATCH: librknnrt.so and the driver do not go together",
    -11: "RKNN_ERR_INCOMPATILE_PRE_COMPILE_MODEL: the model was compiled for another driver",
    -12: "RKNN_ERR_INCOMPATILE_OPTIMIZATION_LEVEL_VERSION: the model was optimised for another driver",
    -13: "RKNN_ERR_TARGET_PLATFORM_UNMATCH: the model was made for another system on a chip",
}


def explain_code(code: int) -> str:
    """Return what a number that RKNN's functions return means."""
    return _CODES.get(code, "unknown to rknn_api.h")


# What the demo, OpenCV and RGA print when something fails.
_FAILURES: tuple[tuple[str, Callable[[re.Match[str]], str]], ...] = (
    (
        r"rknn_(\w+) error ret=(-?\d+)",
        lambda m: f"rknn_{m[1]} failed with {m[2]} ({explain_code(int(m[2]))})",
    ),
    (r"cv::imread (.+) fail!?", lambda m: f"the picture {m[1]} cannot be read"),
    (r"Open file (.+) failed\.?", lambda m: f"the model {m[1]} cannot be opened"),
    (r"(?:Open|Load) (.+) fail(?:ed)?!", lambda m: f"the classes' names {m[1]} cannot be read"),
    (r"Usage: .*", lambda _: "the demo was not given one model and one picture"),
    (r"\d+, check error! ?(.*)", lambda m: f"RGA cannot resize the picture: {m[1]}"),
    (r".*blob seek failure.*|.*buffer malloc failure.*", lambda _: "the model cannot be read"),
    (
        r".*cannot open shared object file.*|.*error while loading shared libraries.*",
        lambda m: f"the demo did not start: {m[0].strip()}",
    ),
)
_RKNN_ERROR = re.compile(r"E RKNN: ?(?:\[[^]]*\] ?)?(.*)")


def find_complaint(lines: list[str]) -> str | None:
    """Return the last error of librknnrt.so among lines."""
    said = [match[1] for text in lines if (match := _RKNN_ERROR.search(text))]
    return said[-1] if said else None


class _Reader:
    """Reads lines in the order in which the demo prints them."""

    def __init__(self, lines: list[str]) -> None:
        self._lines = lines
        self._found: list[tuple[_Line, re.Match[str], str]] = []
        self._other: list[str] = []
        self._order: tuple[_Line, ...] = _LINES

    def read(self) -> DemoOutput:
        for text in self._lines:
            self._take(text.rstrip("\r\n"))
        self._order = self._find_order()
        self._check_failures()
        self._check_order()
        self._check_whole()
        return self._make()

    def _take(self, text: str) -> None:
        for line in _LINES:
            match = re.fullmatch(line.pattern, text)
            if match:
                self._found.append((line, match, text))
                return
        if text.strip():
            self._other.append(text)

    def _find_order(self) -> tuple[_Line, ...]:
        """Return all lines in the order of the demo's version."""
        found = [line for line, _, _ in self._found if line in (_PICTURE[0], _MODEL[0])]
        model_first = _PICTURE[0] in found and found[0] is _MODEL[0]
        return _LINES_SINCE_1_6 if model_first else _LINES

    def _fail(self, message: str) -> SmokeTestError:
        """Return an error, with what librknnrt.so said last, if it said that something is wrong."""
        said = find_complaint(self._other)
        lines = [message, *([f"  librknnrt.so says: {said}"] if said else [])]
        return SmokeTestError("\n".join(lines), hint=_HINT)

    def _check_failures(self) -> None:
        for text in self._other:
            for pattern, say in _FAILURES:
                match = re.fullmatch(pattern, text.strip())
                if match:
                    raise self._fail(say(match))

    def _check_order(self) -> None:
        seen: list[_Line] = []
        for line, _, text in self._found:
            if line in seen and not line.several:
                msg = f"{line.what} is there twice ({text.strip()!r}): is it the output of one run?"
                raise self._fail(msg)
            later = next((one for one in seen if self._comes_before(line, one)), None)
            if later:
                msg = (
                    f"the output is out of order: {line.what} ({text.strip()!r}) comes after "
                    f"{later.what}"
                )
                raise self._fail(msg)
            seen.append(line)

    def _comes_before(self, line: _Line, other: _Line) -> bool:
        return self._order.index(line) < self._order.index(other)

    def _check_whole(self) -> None:
        present = {line.what for line, _, _ in self._found}
        missing = [line for line in self._order if line.needed and line.what not in present]
        damaged = self._find_damaged(missing)
        if damaged:
            line, text = damaged
            msg = f"the line that tells {line.what} cannot be read: {text.strip()!r}"
            if re.search(r"\d,\d", text.partition("=")[2] or text) and "." not in text:
                msg += " (a decimal comma: run it with LC_ALL=C)"
            raise self._fail(msg)
        if not missing:
            return
        if not self._found:
            msg = f"this is not the output of rknn_yolov5_demo: it begins {self._lines[0][:80]!r}"
            raise self._fail(msg)
        last = self._found[-1]
        if all(self._comes_before(last[0], line) for line in missing):
            msg = f"the output ends after {last[2].strip()!r}: {missing[0].what} is missing"
        else:
            msg = f"the output does not tell {missing[0].what} (a line `{missing[0].start} ...`)"
            if self._other:
                msg += f"; {self._other[0].strip()[:80]!r} is no line of the demo's"
        raise self._fail(msg)

    def _find_damaged(self, missing: list[_Line]) -> tuple[_Line, str] | None:
        """Return the first line that is almost one of the demo's."""
        for text in self._other:
            if " @ (" in text or re.match(r"\S+ @ ?\(?", text):
                return _OBJECT, text
            for line in (*missing, *(one for one in _LINES if one.several and one.start)):
                if line.start and text.startswith(line.start):
                    return line, text
        return None

    # --- values -------------------------------------------------------------------------------

    def _get(self, start: str) -> tuple[str, ...]:
        return next(match.groups() for line, match, _ in self._found if line.start == start)

    def _make(self) -> DemoOutput:
        inputs, outputs = (int(count) for count in self._get("model input num:"))
        tensors = [_make_tensor(match) for line, match, _ in self._found if line.what == "a tensor"]
        if len(tensors) != inputs + outputs:
            msg = f"the model has {inputs + outputs} tensors, {len(tensors)} are described"
            raise self._fail(msg)
        sdk, driver = self._get("sdk version:")
        if not driver.strip():
            msg = f"there is no driver version after SDK {sdk}: is the NPU's driver loaded?"
            raise self._fail(msg)
        width, height = self._get("img width =")
        loops, average = self._get("loop count =")
        box, nms = self._get("post process config:")
        rows, columns, channels = self._get("model input height=")
        made = DemoOutput(
            box_threshold=float(box),
            nms_threshold=float(nms),
            image=self._get("Read ")[0],
            image_size=(int(width), int(height)),
            sdk=sdk,
            driver=driver.strip(),
            inputs=tuple(tensors[:inputs]),
            outputs=tuple(tensors[inputs:]),
            layout=self._get("model is ")[0],
            model_size=(int(rows), int(columns), int(channels)),
            once_ms=self._time("the first run", self._get("once run use")[0]),
            labels=self._get("loadLabelName")[0],
            detections=tuple(
                self._make_detection(match, text)
                for line, match, text in self._found
                if line is _OBJECT
            ),
            loops=int(loops),
            average_ms=self._time("the average", average),
            other=self._other,
        )
        if made.loops < 1:
            msg = "the average is of no runs at all"
            raise self._fail(msg)
        return made

    def _time(self, what: str, text: str) -> float:
        value = float(text)
        if not math.isfinite(value) or value <= 0:
            msg = f"{what} took {text} ms, which no run can"
            raise self._fail(msg)
        return value

    def _make_detection(self, match: re.Match[str], text: str) -> Detection:
        left, top, right, bottom = (int(match[index]) for index in range(2, 6))
        score = float(match[6])
        if right <= left or bottom <= top:
            msg = f"an object has a box without area: {text.strip()!r}"
            raise self._fail(msg)
        if not (math.isfinite(score) and 0 <= score <= 1):
            msg = f"an object's score is not between 0 and 1: {text.strip()!r}"
            raise self._fail(msg)
        return Detection(match[1].strip(), (left, top, right, bottom), score)


def _make_tensor(match: re.Match[str]) -> TensorInfo:
    return TensorInfo(
        index=int(match[1]),
        name=match[2],
        n_dims=int(match[3]),
        dims=tuple(int(number) for number in match[4].split(",") if number.strip()),
        elements=int(match[5]),
        format=match[6],
        type=match[7],
        zero_point=int(match[8]),
        scale=float(match[9]),
    )

"""What a check is: its result, its errors, what it may ask, and how answers are compared."""

from __future__ import annotations

import math
import re
import time
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Literal, NoReturn

from tritonbuild.smoke.client import AnswerError, Client, GrpcClient, Tensor

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from concurrent.futures import Future

    from tritonbuild.smoke.server import Server

Status = Literal["pass", "warn", "fail", "skip"]

# How the detail of a check begins that got no answer at all.
NO_ANSWER = "no answer"


@dataclass(frozen=True)
class CheckResult:
    """What one check came to.

    Attributes:
        seconds: Wall time of the check.
        detail: What was seen; for `fail` what was expected and what came, for `skip` why.
        proves: What the check is for.
    """

    name: str
    status: Status
    seconds: float
    detail: str
    proves: str = ""

    def to_dict(self) -> dict[str, object]:
        """Return it as a part of smoke.json."""
        return {**asdict(self), "seconds": round(self.seconds, 3)}


class CheckFailedError(Exception):
    """The server's answer is not the right one."""

    def __init__(self, expected: str, got: str) -> None:
        super().__init__(f"expected {expected}, got {got}")


def fail(expected: str, got: str) -> NoReturn:
    """Raise CheckFailedError."""
    raise CheckFailedError(expected, got)


class CheckSkippedError(Exception):
    """The check cannot be made here; the message says why."""


# How a server says that it was made without a feature: its model configuration has no such field
# (protobuf's words), or our model found no such function.
_LACKS = re.compile(r"has no field named|this python backend cannot")


@dataclass
class Trial:
    """A running server and what is known about it.

    Attributes:
        version: What the server must say its version is; None where the plan does not tell.
        loads: Models that are being loaded while other checks run.
        without: `grpc` or `metrics` where the server was built without it.
        first_answer_seconds: Time from the server's start to the first right inference.
        reported_version: What the server says its version is.
        c_api: What a program with a server in it says, while it still runs.
    """

    server: Server
    client: Client
    version: str | None
    loads: dict[str, Future[None]] = field(default_factory=dict)
    without: frozenset[str] = frozenset()
    first_answer_seconds: float | None = None
    reported_version: str | None = None
    c_api: Future[str] | None = None
    _extensions: frozenset[str] | None = None
    _grpc: GrpcClient | None = None

    def note_answer(self) -> None:
        """Note the first inference that was right."""
        if self.first_answer_seconds is None:
            self.first_answer_seconds = time.monotonic() - self.server.started

    def require_extension(self, name: str) -> None:
        """Make sure that the server says that it has an extension of the protocol.

        Raises:
            CheckSkippedError: It does not say so.
            AnswerError: It does not say anything.
        """
        if self._extensions is None:
            self._extensions = frozenset(self.client.get_json("/v2").get("extensions", ()))
        if name not in self._extensions:
            msg = f"the server does not list the extension {name}"
            raise CheckSkippedError(msg)

    def await_model(self, name: str) -> None:
        """Wait until a model that is being loaded is ready.

        Raises:
            CheckSkippedError: The server says that it does not know what the model is for.
            AnswerError: It could not be loaded.
        """
        try:
            self.loads[name].result()
        except AnswerError as err:
            if _LACKS.search(str(err)):
                raise CheckSkippedError(str(err)) from err
            raise
        if not self.client.is_ready(name):
            fail(f"{name} to be ready after loading", "not ready")

    def get_grpc(self) -> GrpcClient:
        """Return the gRPC connection.

        Raises:
            CheckSkippedError: `tritonclient` is not installed or the server has no gRPC.
        """
        if "grpc" in self.without:
            msg = "the server was built without gRPC"
            raise CheckSkippedError(msg)
        if self._grpc is None:
            try:
                self._grpc = GrpcClient(self.server.grpc_address)
            except ImportError as err:
                msg = f"{err}; pip install 'tritonclient[grpc]'"
                raise CheckSkippedError(msg) from err
        return self._grpc

    def close(self) -> None:
        """Close connections."""
        if self._grpc is not None:
            self._grpc.close()


@dataclass(frozen=True)
class Check:
    """One question.

    Attributes:
        name: kebab-case, unique.
        proves: What a right answer shows.
        run: Asks and returns what was seen; raises CheckFailedError, CheckSkippedError or
            AnswerError.
        models: Models that it asks; they decide which components it needs.
    """

    name: str
    proves: str
    run: Callable[[Trial], str]
    models: tuple[str, ...] = ()


# --- comparing ------------------------------------------------------------------------------


def check_equal(what: str, expected: object, got: object) -> None:
    """Raise CheckFailedError unless two values are equal."""
    if expected != got:
        fail(f"{what} {shorten(expected)}", shorten(got))


def check_tensor(
    outputs: Mapping[str, Tensor], name: str, expected: Tensor, *, tolerance: float = 0.0
) -> None:
    """Raise CheckFailedError unless an output is there, with type, shape and numbers.

    Args:
        outputs: What the server answered.
        name: The output.
        expected: What it must be.
        tolerance: Relative and absolute difference that each number may have.
    """
    got = outputs.get(name)
    if got is None:
        fail(f"an output {name}", f"outputs {sorted(outputs)}")
    check_equal(f"{name} of type", expected.datatype, got.datatype)
    check_equal(f"{name} of shape", expected.shape, got.shape)
    same = len(expected.data) == len(got.data) and all(
        math.isclose(a, b, rel_tol=tolerance, abs_tol=tolerance)
        for a, b in zip(expected.data, got.data, strict=True)
    )
    if not same:
        fail(f"{name} = {list(expected.data)}", str(list(got.data)))


def check_refused(what: str, ask: Callable[[], object]) -> AnswerError:
    """Return the error with which the server answers; raise CheckFailedError if it does not."""
    refusal: AnswerError | None = None
    try:
        ask()
    except AnswerError as err:
        refusal = err
    if refusal is None:
        fail(f"{what} to be refused", "an answer")
    return refusal


def shorten(value: object) -> str:
    """Return a value as text that fits a line or two."""
    text = str(value)
    return text if len(text) <= 200 else text[:200] + "..."


def run_check(check: Check, trial: Trial) -> CheckResult:
    """Run one check; whatever goes wrong in it becomes its result."""
    import requests

    started = time.monotonic()
    status: Status = "pass"
    try:
        detail = check.run(trial)
    except CheckSkippedError as err:
        status, detail = "skip", str(err)
    except (CheckFailedError, AnswerError) as err:
        status, detail = "fail", str(err)
    except requests.RequestException as err:
        status, detail = "fail", f"{NO_ANSWER}: {shorten(err)}"
    except (KeyError, TypeError, ValueError, IndexError, AttributeError) as err:
        # The answer is not the protocol: an expected key or number is not there.
        status, detail = "fail", f"not the protocol: {type(err).__name__}: {shorten(err)}"
    return CheckResult(check.name, status, time.monotonic() - started, detail, check.proves)

"""What a program made of an image, whatever it did: content, a refusal, a crash, no end.

``isolated`` lets Python code be such a program: it runs in a process of its own, so that a crash
in C or a loop without an end is an outcome, too.  Knows no images.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import select
import signal
import time
from collections.abc import Callable
from typing import NamedTuple, NoReturn, TypeAlias

from qcow2crypt.errors import DifftestError, Qcow2CryptError, UnsupportedFeatureError
from qcow2crypt.testing.tools import Done

_PIECE = 1 << 20


class Content(NamedTuple):
    """It did its work; ``data`` is what it gave."""

    data: bytes


class Refused(NamedTuple):
    """It said that it will not, and why; ``unsupported`` where it names what it does not know."""

    message: str
    unsupported: bool = False


class Crashed(NamedTuple):
    """It ended by a signal, or by an error that no user should see."""

    message: str


class Hung(NamedTuple):
    """It was killed after so many seconds."""

    seconds: float


Outcome: TypeAlias = "Content | Refused | Crashed | Hung"


def isolated(work: Callable[[], bytes], longest: float) -> Outcome:
    """What becomes of ``work`` in a process of its own, which ends with this call."""
    if not hasattr(os, "fork"):
        raise DifftestError("this system has no fork: difftest needs Linux, macOS or another Unix")
    source, target = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(source)
        _child(work, target)
    os.close(target)
    try:
        answer = _answer(source, longest)
        if answer is None:
            return Hung(longest)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        child = 0
    finally:
        os.close(source)
        if child:
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
    if status < 0:
        return Crashed(signal_name(-status))
    if not answer:
        return Crashed(f"it ended with {status}")
    outcome: Outcome = pickle.loads(answer)  # noqa: S301 - our own child wrote it
    return outcome


def _child(work: Callable[[], bytes], target: int) -> NoReturn:
    outcome: Outcome
    try:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        outcome = Content(work())
    except UnsupportedFeatureError as error:
        outcome = Refused(str(error), unsupported=True)
    except Qcow2CryptError as error:
        outcome = Refused(str(error))
    except BaseException as error:  # noqa: BLE001 - whatever it is, it is an outcome
        outcome = Crashed(f"{type(error).__name__}: {error}")
    with contextlib.suppress(BaseException), os.fdopen(target, "wb") as pipe:
        pipe.write(pickle.dumps(outcome))
    os._exit(0)


def _answer(source: int, longest: float) -> bytes | None:
    """Everything from the pipe; None where it did not end in time."""
    parts: list[bytes] = []
    end = time.monotonic() + longest
    while True:
        rest = end - time.monotonic()
        if rest <= 0 or not select.select([source], [], [], rest)[0]:
            return None
        part = os.read(source, _PIECE)
        if not part:
            return b"".join(parts)
        parts.append(part)


def of_program(done: Done, data: Callable[[], bytes], longest: float) -> Outcome:
    """What a program made of it; ``data`` gives what it wrote, where it ended well."""
    if done.status is None:
        return Hung(longest)
    if done.status < 0:
        return Crashed(signal_name(-done.status))
    if done.status:
        return Refused((done.stderr or done.stdout).strip()[-1000:] or f"status {done.status}")
    return Content(data())


def signal_name(number: int) -> str:
    """``SIGSEGV``, or the number where it has no name."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"

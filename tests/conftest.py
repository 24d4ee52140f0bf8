"""What all tests share: options, hypothesis profiles, the fixtures for QEMU, and honest skips."""

from __future__ import annotations

import os
import signal
from collections import Counter
from collections.abc import Generator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

import qcow2crypt
from qcow2crypt import engines

pytest_plugins = ["qcow2crypt.testing.fixtures"]

# deadline=None: the reference is slow on purpose, and tests never judge by time.
_SLOW_IS_FINE = [HealthCheck.too_slow, HealthCheck.data_too_large]
settings.register_profile("dev", deadline=None, suppress_health_check=_SLOW_IS_FINE)
# The same examples each time: a red build can be repeated, a green one stays green.
settings.register_profile(
    "ci", settings.get_profile("dev"), derandomize=True, database=None, print_blob=True
)
# For the same tests over again on another Python.
settings.register_profile("quick", settings.get_profile("ci"), max_examples=15)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--require-native-tools",
        action="store_true",
        help="fail, not skip, where compilers, valgrind or qemu-user are missing",
    )


def _listen_to_signals() -> None:
    """A job in the background ignores Ctrl-C, and so would the programs that the tests start."""
    for name, action in (
        ("SIGINT", signal.default_int_handler),
        ("SIGTERM", signal.SIG_DFL),
        ("SIGHUP", signal.SIG_DFL),
    ):
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) == signal.SIG_IGN:
            signal.signal(number, action)


def pytest_configure(config: pytest.Config) -> None:
    _listen_to_signals()
    if not config.getoption("--hypothesis-profile"):
        settings.load_profile("ci" if _is_set("CI") else "dev")


def pytest_report_header() -> list[str]:
    status = engines.status()
    kernels = [kernel.name for kernel in status.kernels if kernel.available]
    return [
        f"qcow2crypt {qcow2crypt.__version__} from {Path(qcow2crypt.__file__).parent}",
        f"engines: {', '.join(engines.available())}; used: {status.used or 'none'}",
        f"kernels of the engine native: {', '.join(kernels) or 'none'}",
    ]


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> Generator[None]:
    """Say last, in plain words, what this run could not check."""
    yield
    reasons = Counter(_reason(report) for report in terminalreporter.stats.get("skipped", []))
    if reasons:
        terminalreporter.section("not checked here")
        for reason, count in sorted(reasons.items()):
            terminalreporter.write_line(f"{count} test{'s' * (count > 1)}: {reason}")


def _is_set(*names: str) -> bool:
    return any(os.environ.get(name, "") not in {"", "0", "false"} for name in names)


def _reason(report: pytest.TestReport) -> str:
    longrepr = report.longrepr
    text = longrepr[2] if isinstance(longrepr, tuple) else str(longrepr)
    return text.removeprefix("Skipped: ")

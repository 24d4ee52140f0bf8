"""What all tests share: options, hypothesis profiles, the QEMU witness, and honest skips.

``--require-qemu`` turns "qemu-img is missing" from a skip into a failure.  CI=true or
QCOW2CRYPT_REQUIRE_QEMU=1 in the environment do the same.
"""

from __future__ import annotations

import os
import signal
from collections import Counter
from collections.abc import Generator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from oracles.qemu_img import QemuImg

import qcow2crypt
from qcow2crypt import engines

NO_QEMU = "qemu-img and qemu-io are not installed: nothing was compared with QEMU itself"

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
        "--require-qemu", action="store_true", help="fail, not skip, where qemu-img is missing"
    )
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
    qemu = QemuImg.find()
    status = engines.status()
    kernels = [kernel.name for kernel in status.kernels if kernel.available]
    return [
        f"qcow2crypt {qcow2crypt.__version__} from {Path(qcow2crypt.__file__).parent}",
        f"engines: {', '.join(engines.available())}; used: {status.used or 'none'}",
        f"kernels of the engine native: {', '.join(kernels) or 'none'}",
        f"qemu-img: {qemu.version if qemu else 'not installed'}",
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


@pytest.fixture(scope="session")
def qemu_img(request: pytest.FixtureRequest) -> QemuImg:
    """qemu-img and qemu-io; without them the test is skipped, or fails under --require-qemu."""
    found = QemuImg.find()
    if found is not None:
        return found
    if request.config.getoption("--require-qemu") or _is_set("QCOW2CRYPT_REQUIRE_QEMU", "CI"):
        pytest.fail(f"{NO_QEMU} (on Debian: apt-get install qemu-utils)", pytrace=False)
    pytest.skip(NO_QEMU)


def _is_set(*names: str) -> bool:
    return any(os.environ.get(name, "") not in {"", "0", "false"} for name in names)


def _reason(report: pytest.TestReport) -> str:
    longrepr = report.longrepr
    text = longrepr[2] if isinstance(longrepr, tuple) else str(longrepr)
    return text.removeprefix("Skipped: ")

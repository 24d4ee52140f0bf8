"""Fixtures of pytest for the programs of QEMU; their version stands in every failure.

In the ``conftest.py`` at the top of your tests:

    pytest_plugins = ["qcow2crypt.testing.fixtures"]

A test that takes ``qemu_img`` gets a ``QemuImg``.  Where the programs are missing the test is
skipped and says so; under ``--require-qemu``, or with QCOW2CRYPT_REQUIRE_QEMU=1 in the environment,
it fails.  When a test fails that took it, the report ends with the version of qemu-img.
"""

from __future__ import annotations

import os
from collections.abc import Generator

import pytest

from qcow2crypt.testing.witness import QemuImg

NO_QEMU = "qemu-img and qemu-io are not installed: nothing was compared with QEMU itself"
VARIABLE = "QCOW2CRYPT_REQUIRE_QEMU"


def pytest_addoption(parser: pytest.Parser) -> None:
    """The option ``--require-qemu``."""
    parser.addoption(
        "--require-qemu", action="store_true", help="fail, not skip, where qemu-img is missing"
    )


def pytest_report_header() -> str:
    """Which QEMU the tests will use."""
    found = QemuImg.find()
    return f"qemu-img: {found.version if found else 'not installed'}"


@pytest.fixture(scope="session")
def qemu_img(request: pytest.FixtureRequest) -> QemuImg:
    """qemu-img and qemu-io; without them the test is skipped, or fails under --require-qemu."""
    found = QemuImg.find()
    if found is not None:
        return found
    required = os.environ.get(VARIABLE, "") not in {"", "0", "false"}
    if required or request.config.getoption("--require-qemu"):
        pytest.fail(f"{NO_QEMU} (on Debian: apt-get install qemu-utils)", pytrace=False)
    pytest.skip(NO_QEMU)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Say in every failure of a test that took ``qemu_img`` which version it was."""
    report = yield
    if report.failed:
        used = getattr(item, "funcargs", {}).get("qemu_img")
        if isinstance(used, QemuImg):
            report.sections.append(("qemu-img", f"{used.img}, version {used.version}"))
    return report

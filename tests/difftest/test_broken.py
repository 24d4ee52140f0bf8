"""Our own code with a fault in it: difftest finds each, and shrinks it to a handful of commands."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.difftesting import difftest

from qcow2crypt.testing.script import calls
from qcow2crypt.testing.witness import QemuImg

pytestmark = pytest.mark.slow

COMMANDS_MAX = 6
FAULTS = [
    # variant, profile, kind, part, what the report says, and what the case takes
    ("host-iv", "aes", "other bytes", "read", "the IV of the host sector", {"aes"}),
    ("big-endian-iv", "aes", "other bytes", "read", "the IV is another", {"aes"}),
    ("padded-key", "aes", "other bytes", "read", "the passphrase filled with spaces", {"aes"}),
    ("l2-off-by-one", "plain", "zeros", "read", "looks like | zeros", set()),
    ("cow-without-tail", "compressed", "zeros", "write", "looks like | zeros", {"compressed"}),
    (
        "late-refcounts",
        "plain",
        "corrupt after a power failure",
        "order",
        "refcount is 0",
        set(),
    ),
]


@pytest.mark.parametrize(
    ("variant", "profile", "kind", "part", "said", "takes"), FAULTS, ids=[row[0] for row in FAULTS]
)
def test_a_fault_is_found_and_shrunk(
    qemu_img: QemuImg,
    tmp_path: Path,
    variant: str,
    profile: str,
    kind: str,
    part: str,
    said: str,
    takes: set[str],
) -> None:
    found = difftest(tmp_path, "--profile", profile, "--cases", "5", variant=variant)
    assert found.status == 1
    group = found.group(kind, part)
    assert takes <= set(group["features"])
    case = found.case(group)
    assert len(calls(case)) <= COMMANDS_MAX
    assert case.operations <= 3
    assert max(layer.size for layer in case.layers) <= 1 << 20
    report = found.report(group)
    assert said in report
    assert qemu_img.version in report


@pytest.mark.parametrize("profile", ["aes", "all"])
def test_without_a_fault_nothing_is_found(qemu_img: QemuImg, tmp_path: Path, profile: str) -> None:
    found = difftest(tmp_path, "--profile", profile, "--cases", "12")
    assert found.status == 0, found.summary
    assert found.summary["differences"] == []
    assert found.summary["counts"]["cases"] >= 11
    assert found.summary["counts"]["points in time"] > 10


def test_a_fault_that_does_not_end_is_a_difference(qemu_img: QemuImg, tmp_path: Path) -> None:
    words = ("--profile", "aes", "--cases", "1", "--start", "1", "--timeout", "1")
    found = difftest(tmp_path, *words, "--writer", "none", variant="slow-reader")
    assert found.status == 1
    assert found.group("hung", "read")["message"].startswith("no end after")

"""What the processor offers: CPUID, and what Linux says, here and on emulated processors."""

from __future__ import annotations

import json
import mmap
import os
import platform
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import qcow2crypt
from qcow2crypt import engines
from qcow2crypt.probe import cpu

HOME = Path(qcow2crypt.__file__).parent.parent
ON_X86 = platform.system() == "Linux" and platform.machine() == "x86_64"
TELL = (
    "import json; from qcow2crypt.probe import cpu; found = cpu.look(); "
    "print(json.dumps([{f.name: [f.by_cpuid, f.by_kernel] for f in found.features}, found.why]))"
)


@pytest.mark.skipif(not ON_X86, reason="CPUID was not asked: this is no Linux on x86-64")
def test_here_both_are_asked() -> None:
    found = cpu.look()
    assert found.why == ""
    assert all(None not in {row.by_cpuid, row.by_kernel} for row in found.features)
    assert found.has("sha512") is None
    # Our own C kernels ask CPUID, too.
    for feature in engines.status().features:
        assert found.has(feature.name) in {feature.present, None}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "expected"),
    [
        ("Westmere", {"aes": True, "ssse3": True, "avx": False, "avx2": False, "vaes": False}),
        ("Haswell", {"aes": True, "avx2": True, "vaes": False, "avx512f": False}),
        ("core2duo", {"aes": False, "ssse3": True, "avx": False}),
        # The bits are there, and no operating system that saves the registers.
        ("max,-avx,-avx2", {"aes": True, "avx": False, "vaes": False}),
    ],
)
def test_another_processor(
    tool: Callable[[str], str], model: str, expected: dict[str, bool]
) -> None:
    """qemu-user shows the flags of the real machine in /proc/cpuinfo: so they disagree."""
    done = subprocess.run(
        [tool("qemu-x86_64"), "-cpu", model, sys.executable, "-c", TELL],
        check=True,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(HOME)},
    )
    features, why = json.loads(done.stdout)
    assert why == ""
    assert {name: features[name][0] for name in expected} == expected


def test_disagreements() -> None:
    rows = (
        cpu.Feature("aes", by_cpuid=True, by_kernel=False),
        cpu.Feature("vaes", by_cpuid=True, by_kernel=True),
        cpu.Feature("avx", by_cpuid=None, by_kernel=True),
    )
    found = cpu.Cpu("", "x86_64", rows)
    assert [each.name for each in found.disagreements] == ["aes"]
    assert (found.has("aes"), found.has("avx"), found.has("x")) == (True, True, None)


def test_other_machines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")
    monkeypatch.setattr(cpu, "_cpuinfo", lambda: (frozenset({"aes", "fp"}), ""))
    found = cpu.look()
    assert (found.has("aes"), found.has("pmull")) == (True, False)
    assert "x86-64 only" in found.why
    monkeypatch.setattr(cpu, "_cpuinfo", lambda: (frozenset(), ""))
    assert cpu.look().has("aes") is None
    monkeypatch.setattr(platform, "machine", lambda: "s390x")
    assert cpu.look().features == ()


def test_where_no_code_may_be_made(monkeypatch: pytest.MonkeyPatch) -> None:
    """Some systems let no program write code for itself."""
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")

    def refuse(*args: object, **named: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(mmap, "mmap", refuse)
    monkeypatch.setattr(cpu, "_cpuinfo", lambda: (frozenset({"aes"}), "some model"))
    found = cpu.look()
    assert "CPUID cannot be asked" in found.why
    assert (found.has("aes"), found.has("vaes")) == (True, False)


def test_cpuinfo_of_arm_and_of_nothing() -> None:
    arm = "processor\t: 0\nFeatures\t: fp asimd aes pmull\nprocessor\t: 1\n"
    assert cpu.parse_cpuinfo(arm) == (frozenset({"fp", "asimd", "aes", "pmull"}), "")
    assert cpu.parse_cpuinfo("") == (frozenset(), "")

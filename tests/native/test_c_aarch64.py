"""The C part on ARM, under qemu-aarch64: the kernel `armv8`, and what is chosen without it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from support.native_c import ARM_CLANG, ARM_GCC, TESTS, Variant, compile_once, run

pytestmark = pytest.mark.slow

LIBRARIES = "/usr/aarch64-linux-gnu"
COMMANDS = [["self-test"], ["vectors"], ["runs", "17"], ["arguments"], ["wiping"]]
each_variant = pytest.mark.parametrize(
    "variant", [ARM_GCC, ARM_CLANG], ids=lambda variant: variant.name
)


@pytest.fixture
def emulated(
    tool: Callable[[str], str],
    c_driver: Callable[[Variant], Path],
    c_vectors: Path,
    variant: Variant,
) -> Callable[..., str]:
    """Runs the driver on an emulated CPU."""
    tool("aarch64-linux-gnu-gcc")  # clang has no C library for ARM of its own
    program, qemu = c_driver(variant), tool("qemu-aarch64")

    def go(cpu: str, command: list[str], *options: str) -> str:
        words = [*command, str(c_vectors)] if command == ["vectors"] else command
        return run([qemu, "-L", LIBRARIES, "-cpu", cpu, *options, program, *words])

    return go


@each_variant
@pytest.mark.parametrize("cpu", ["max", "cortex-a53"])
@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_with_the_extension(emulated: Callable[..., str], cpu: str, command: list[str]) -> None:
    said = [line.split()[0] for line in emulated(cpu, command).splitlines()]
    assert said == ["armv8", "portable"]


@pytest.fixture
def hidden(tool: Callable[[str], str], c_folder: Path) -> list[str]:
    """Options of qemu-aarch64 that hide the extension from the program."""
    tool("aarch64-linux-gnu-gcc")
    source = TESTS / "hide_features.c"
    library = compile_once(c_folder, "hide", ARM_GCC, [source], "-shared", "-fPIC")
    return ["-E", f"LD_PRELOAD={library}"]


@each_variant
@pytest.mark.parametrize("command", [["kernels"], *COMMANDS], ids=" ".join)
def test_without_the_extension(
    emulated: Callable[..., str], hidden: list[str], command: list[str]
) -> None:
    lines = emulated("max", command, *hidden).splitlines()
    if command == ["kernels"]:
        assert lines == ["armv8 0 16", "portable 1 0"]
    elif command == ["self-test"]:
        assert lines == ["armv8 refused", "portable ok"]
    else:
        assert [line.split()[0] for line in lines] == ["portable"]

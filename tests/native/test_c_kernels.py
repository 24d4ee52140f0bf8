"""The C kernels as C: self-test, vectors, runs between guards, refusals; with and without
AddressSanitizer and UBSan; gcc and clang, warnings as errors.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from support.native_c import CLANG, CLANG_SANITIZED, GCC, GCC_SANITIZED, Variant, attempt, run

pytestmark = pytest.mark.slow

VARIANTS = [GCC, CLANG, GCC_SANITIZED, CLANG_SANITIZED]
each_variant = pytest.mark.parametrize("variant", VARIANTS, ids=lambda variant: variant.name)


def names(text: str) -> list[str]:
    return [line.split()[0] for line in text.splitlines()]


def usable(driver: Path) -> list[str]:
    """The kernels that this CPU can run; never without `portable`."""
    rows = [line.split() for line in run([driver, "kernels"]).splitlines()]
    found = [row[0] for row in rows if row[1] == "1"]
    assert found[-1] == "portable"
    return found


@each_variant
def test_self_test(c_driver: Callable[[Variant], Path], variant: Variant) -> None:
    program = c_driver(variant)
    lines = run([program, "self-test"]).splitlines()
    assert [line.split()[0] for line in lines if line.endswith(" ok")] == usable(program)


@each_variant
def test_vectors(c_driver: Callable[[Variant], Path], variant: Variant, c_vectors: Path) -> None:
    program = c_driver(variant)
    said = run([program, "vectors", c_vectors])
    assert names(said) == usable(program)
    count = len(c_vectors.read_text("utf-8").splitlines())
    assert count > 2000
    assert all(line.endswith(f" {count} vectors") for line in said.splitlines())


@each_variant
@pytest.mark.parametrize("command", ["runs", "wide-runs", "arguments", "wiping"])
def test_driver(c_driver: Callable[[Variant], Path], variant: Variant, command: str) -> None:
    program = c_driver(variant)
    # Sanitizers make it many times slower: there, up to one full group of the widest kernel.
    lengths = {"runs": ("300", "49"), "wide-runs": ("8197", "1029")}
    longest = lengths[command]["sanitized" in variant.name :][:1] if command in lengths else ()
    assert names(run([program, command, *longest])) == usable(program)


def test_a_wrong_vector_is_found(
    c_driver: Callable[[Variant], Path], c_vectors: Path, tmp_path: Path
) -> None:
    program = c_driver(GCC)
    lines = c_vectors.read_text("utf-8").splitlines()
    for word in ("ecb", "cbc", "mct-encrypt", "mct-decrypt", "plain64"):
        line = next(line for line in lines if line.startswith(word))
        wrong = tmp_path / f"{word}.txt"
        wrong.write_text(line[:-1] + ("0" if line[-1] != "0" else "1") + "\n", "utf-8")
        done = attempt([program, "vectors", wrong])
        assert done.returncode == 1
        assert f"line 1 ({word})" in done.stderr

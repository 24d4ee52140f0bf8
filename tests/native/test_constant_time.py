"""No branch and no address of the portable kernels depends on a key, an IV or data.

Under valgrind with all three marked as undefined (see c/secret.c).  The last tests show that the
first ones would find a leak: a branch, and an S-box that is a table.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from subprocess import CompletedProcess

import pytest
from support.native_c import CLANG, GCC, TESTS, Variant, attempt, compile_once, core, run

pytestmark = pytest.mark.slow

LEAK = 99
COMMON = [TESTS / name for name in ("secret.c", "region.c")]
each_variant = pytest.mark.parametrize("variant", [GCC, CLANG], ids=lambda variant: variant.name)


@pytest.fixture
def under_valgrind(tool: Callable[[str], str]) -> Callable[..., CompletedProcess[str]]:
    """Runs a program under memcheck; the exit status is LEAK where it complains."""
    command = [tool("valgrind"), "-q", f"--error-exitcode={LEAK}", "--log-fd=2"]
    return lambda *words: attempt([*command, *words])


@pytest.fixture
def secret(tool: Callable[[str], str], c_folder: Path, variant: Variant) -> Callable[..., Path]:
    """Compiles c/secret.c: with csrc as it is, or with the leaky twin in place of its key
    expansion and its portable kernel.
    """

    def make(*, leaky: bool = False) -> Path:
        tool(variant.compiler[0])
        sources: Sequence[Path] = [*core(), *COMMON, TESTS / "helpers.c"]
        if leaky:
            twin = [TESTS / name for name in ("leaky_twin.c", "plain_aes.c")]
            sources = [*core("key.c", "kernel_portable.c"), *COMMON, TESTS / "helpers.c", *twin]
        return compile_once(c_folder, "leaky" if leaky else "secret", variant, sources)

    return make


@each_variant
@pytest.mark.parametrize("kernel", ["portable", "portable-avx2"])
def test_nothing_depends_on_a_secret(
    secret: Callable[..., Path],
    under_valgrind: Callable[..., CompletedProcess[str]],
    variant: Variant,
    kernel: str,
) -> None:
    done = under_valgrind(secret(), kernel)
    if kernel != "portable" and "no such kernel here" in done.stderr:
        pytest.skip(f"this CPU cannot run {kernel}")
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{kernel} on secrets, under valgrind\n"
    assert not done.stderr


@each_variant
def test_a_branch_is_found(
    secret: Callable[..., Path],
    under_valgrind: Callable[..., CompletedProcess[str]],
    variant: Variant,
) -> None:
    done = under_valgrind(secret(), "portable", "branch")
    assert done.returncode == LEAK
    assert "Conditional jump or move depends on uninitialised value" in done.stderr


@each_variant
def test_a_table_lookup_is_found(
    secret: Callable[..., Path],
    under_valgrind: Callable[..., CompletedProcess[str]],
    variant: Variant,
) -> None:
    twin = secret(leaky=True)
    # Right in all it computes: it is the way there that gives the secret away.
    assert run([twin, "portable"]) == "portable on secrets\n"
    done = under_valgrind(twin, "portable")
    assert done.returncode == LEAK
    assert "Use of uninitialised value" in done.stderr
    assert "plain_expand" in done.stderr
    # Compilers may put the one function into the other.
    assert "plain_encrypt" in done.stderr or "sub_shift" in done.stderr

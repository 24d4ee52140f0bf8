"""Detection on processors that lack something, under qemu-user: no variable is faked.

TCG runs no AVX-512, so `vaes512` is never among the kernels here.  `max,-aes` has the VAES bit and
traps on VAES all the same; `max,-avx2` and `max,-avx,-avx2` do, too.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import pytest
from support.native_c import GCC, TESTS, Variant, attempt, compile_once, run

import qcow2crypt

pytestmark = pytest.mark.slow

BASE = ["portable"]
AES = ["aesni", *BASE]
AVX2 = ["aesni", "portable-avx2", *BASE]
VAES = ["vaes256", *AVX2]

# The kernels that each model can run, best first.
MODELS = {
    "core2duo": BASE,
    "Nehalem": BASE,
    "qemu64": BASE,
    "Westmere": AES,
    "SandyBridge": AES,
    "Haswell": AVX2,
    "EPYC": AVX2,
    "Icelake-Server": VAES,
    "max": VAES,
    "max,-vaes": AVX2,
    "max,-aes": ["portable-avx2", *BASE],
    "max,-avx2": AES,
    "max,-avx,-avx2": AES,
}
each_model = pytest.mark.parametrize("model", MODELS)


@pytest.fixture
def emulated(
    tool: Callable[[str], str], c_driver: Callable[[Variant], Path]
) -> Callable[..., list[str]]:
    """Runs the C test driver on a CPU model; gives its lines."""

    def go(model: str, *words: str | Path) -> list[str]:
        qemu = tool("qemu-x86_64")
        return attempt([qemu, "-cpu", model, c_driver(GCC), *words]).stdout.splitlines()

    return go


@pytest.fixture(scope="session")
def wrong_here(tool: Callable[[str], str], c_folder: Path) -> list[str]:
    """The kernels that this emulator cannot run right.

    QEMU 7.2 computes the upper half of a 256-bit VAESENC wrong.  A program that knows nothing of
    our kernels finds that out, so the tests know what to
    expect: that the self-test finds it too.
    """
    qemu, source = tool("qemu-x86_64"), TESTS / "vaes_probe.c"
    probe = compile_once(c_folder, "vaes-probe", GCC, [source])
    said = run([qemu, "-cpu", "max", probe])
    assert said in {"right\n", "wrong\n"}
    return ["vaes256"] if said == "wrong\n" else []


@each_model
def test_kernels_are_refused_or_right(
    emulated: Callable[..., list[str]], wrong_here: list[str], model: str
) -> None:
    rows = [line.split() for line in emulated(model, "kernels")]
    assert [name for name, can, _ in rows if can == "1"] == MODELS[model]
    said = dict(line.split() for line in emulated(model, "self-test"))
    assert said == {
        name: "refused" if name not in MODELS[model] else "wrong" if name in wrong_here else "ok"
        for name, _, _ in rows
    }


def without(kernels: list[str]) -> list[str]:
    return [word for name in kernels for word in ("--without", name)]


@each_model
def test_known_answers(
    emulated: Callable[..., list[str]], wrong_here: list[str], c_vectors: Path, model: str
) -> None:
    said = emulated(model, *without(wrong_here), "vectors", c_vectors)
    wanted = [name for name in MODELS[model] if name not in wrong_here]
    assert [line.split()[0] for line in said] == wanted


@pytest.mark.parametrize("model", ["core2duo", "SandyBridge", "Haswell", "max", "max,-aes"])
def test_runs_and_refusals(
    emulated: Callable[..., list[str]], wrong_here: list[str], model: str
) -> None:
    wanted = [name for name in MODELS[model] if name not in wrong_here]
    for command in (["runs", "17"], ["arguments"], ["wiping"]):
        said = emulated(model, *without(wrong_here), *command)
        assert [line.split()[0] for line in said] == wanted, command


@each_model
def test_python_picks_the_right_kernel(
    tool: Callable[[str], str], wrong_here: list[str], model: str
) -> None:
    """A real Python on that CPU imports the package.  It runs in one process: a child that an
    emulated program starts is on the real CPU again.
    """
    if find_spec("qcow2crypt._native") is None:
        pytest.skip("this qcow2crypt was built without the C kernels")
    here, package = Path(__file__), Path(qcow2crypt.__file__)
    places = f"{package.parent.parent}:{here.parent.parent}"
    python = [tool("qemu-x86_64"), "-cpu", model, sys.executable]
    found = json.loads(run([*python, here.parent / "on_this_cpu.py"], PYTHONPATH=places))

    best = MODELS[model][0]
    if best in wrong_here:
        assert found["chosen"][0] == "SelfTestError"  # loud: no other kernel steps in
    else:
        assert found["chosen"] == best
    assert found["cases"] > 1100
    for name, kernel in found["kernels"].items():
        assert kernel["wrong"] == []
        if name not in MODELS[model]:
            assert kernel["lacks"]
            assert kernel["refusal"][0] == "EngineUnavailableError"
            assert all(feature in kernel["refusal"][1] for feature in kernel["lacks"])
        elif name in wrong_here:
            assert kernel["refusal"][0] == "SelfTestError"
        else:
            assert kernel["refusal"] == []

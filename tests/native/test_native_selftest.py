"""A kernel is tested before it is used, once, and one that fails is never passed over in silence.

Wrong kernels and other processors are played by an object in place of the C side.  Detection on
real other processors, emulated ones, is a test of its own.
"""

from __future__ import annotations

import json
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from cli.schemas import schema
from support import every_engine

from qcow2crypt import SectorCipher, cli, engines
from qcow2crypt.errors import EngineUnavailableError, SelfTestError

native = pytest.importorskip(
    "qcow2crypt.engines.native", reason="no kernel was tested: none is compiled in"
)

_LIB = native.lib
NAMES = [kernel.removeprefix("native:") for kernel in every_engine.KERNELS]


class Fake:
    """The C side, of which some kernels are wrong and some features are missing."""

    def __init__(self, wrong: tuple[str, ...] = (), features: int | None = None) -> None:
        self.wrong = wrong
        self.features = _LIB.qc_cpu_features() if features is None else features
        self.tested: list[str] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(_LIB, name)

    def qc_cpu_features(self) -> int:
        return self.features

    def qc_self_test(self, kernel: int) -> int:
        name = native.ffi.string(_LIB.qc_kernel_name(kernel)).decode()
        self.tested.append(name)
        time.sleep(0.01)  # other threads get their chance to come in
        status: int = _LIB.QC_SELF_TEST if name in self.wrong else _LIB.qc_self_test(kernel)
        return status


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process in which nothing was tested or loaded yet."""
    monkeypatch.delenv(engines.ENVIRONMENT_VARIABLE, raising=False)
    monkeypatch.setattr(engines, "_loaded", {})
    monkeypatch.setattr(native, "_test_results", {})


def play(monkeypatch: pytest.MonkeyPatch, **how: Any) -> Fake:
    fake = Fake(**how)
    monkeypatch.setattr(native, "lib", fake)
    return fake


def best() -> str:
    return next(k.name for k in engines.status().kernels if not k.lacks)


def test_a_kernel_is_tested_once_and_only_when_it_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = play(monkeypatch)
    kernel = engines.get("native").kernel  # type: ignore[attr-defined]
    assert fake.tested == [kernel]
    engines.get(f"native:{kernel}")
    engines.get()
    assert fake.tested == [kernel]
    engines.get("native:portable")
    assert fake.tested == list(dict.fromkeys([kernel, "portable"]))


def test_a_kernel_is_tested_once_even_by_many_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = play(monkeypatch)
    with ThreadPoolExecutor(16) as pool:
        found = list(pool.map(lambda _: native.load("portable").name, range(64)))
    assert set(found) == {"native:portable"}
    assert fake.tested == ["portable"]


@pytest.mark.parametrize("asked", [None, "auto", "native", "native:NAME"])
@pytest.mark.parametrize("way", ["argument", "environment"])
def test_a_wrong_kernel_is_an_error_each_time(
    monkeypatch: pytest.MonkeyPatch, asked: str | None, way: str
) -> None:
    name = best()
    monkeypatch.setattr(native, "_test_results", {})
    fake = play(monkeypatch, wrong=(name,))
    monkeypatch.setattr(engines, "_loaded", {})
    wanted = asked and asked.replace("NAME", name)
    if way == "environment":
        monkeypatch.setenv(engines.ENVIRONMENT_VARIABLE, wanted or "")
        wanted = None
    for _ in range(3):
        with pytest.raises(SelfTestError) as caught:
            SectorCipher(bytes(16), engine=wanted)
        assert caught.value.name == f"native:{name}"
        assert f"the kernel '{name}' failed its self-test" in str(caught.value)
    assert fake.tested == [name]
    assert isinstance(caught.value, EngineUnavailableError)


def test_other_engines_can_still_be_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    name = best()
    monkeypatch.setattr(native, "_test_results", {})
    monkeypatch.setattr(engines, "_loaded", {})
    play(monkeypatch, wrong=(name,))
    assert engines.get("pure").name == "pure"
    assert name == "portable" or engines.get("native:portable").name == "native:portable"
    assert "native" not in engines.available()
    with pytest.raises(EngineUnavailableError) as caught:
        engines.get("fast")
    assert not isinstance(caught.value, SelfTestError)


def test_the_status_tells_of_a_wrong_kernel(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    name = best()
    monkeypatch.setattr(native, "_test_results", {})
    monkeypatch.setattr(engines, "_loaded", {})
    play(monkeypatch, wrong=(name,))
    status = engines.status()
    assert (status.used, status.kernel) == ("", "")
    assert "failed its self-test" in status.why
    assert "failed its self-test" in status.engines[0].reason
    kernel = next(kernel for kernel in status.kernels if kernel.name == name)
    assert not kernel.available
    assert not kernel.lacks
    assert cli.main(["engines"]) == 1
    assert f"    {name:<16}no       the kernel '{name}' failed its self-test" in (
        capsys.readouterr().out
    )
    # A wrong kernel that is not the one in use is no less of an alarm.
    monkeypatch.setenv(engines.ENVIRONMENT_VARIABLE, "pure")
    assert cli.main(["engines", "--output=json"]) == 1
    found = json.loads(capsys.readouterr().out)
    jsonschema.validate(found, schema("engines"))
    assert found["used"] == "pure"


def test_no_memory_is_no_verdict(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = play(monkeypatch)
    with monkeypatch.context() as short:
        short.setattr(fake, "qc_self_test", lambda _: _LIB.QC_NO_MEMORY, raising=False)
        with pytest.raises(MemoryError):
            native.load("portable")
    assert native.load("portable").kernel == "portable"


@pytest.mark.skipif("vaes512" not in NAMES, reason="this build has no kernels for x86")
def test_a_processor_that_lacks_features(monkeypatch: pytest.MonkeyPatch) -> None:
    play(monkeypatch, features=_LIB.QC_FEATURE_AES & _LIB.qc_cpu_features())
    with pytest.raises(EngineUnavailableError) as caught:
        engines.get("native:vaes512")
    assert caught.value.name == "native:vaes512"
    assert "needs aes, avx2, vaes, avx512f" in str(caught.value)
    assert "lacks " in str(caught.value)
    assert "avx2, vaes, avx512f" in str(caught.value).partition("lacks ")[2]
    status = engines.status()
    assert status.kernel in ("aesni", "portable")
    lacks = {kernel.name: kernel.lacks for kernel in status.kernels}
    assert lacks["vaes256"][-2:] == ("avx2", "vaes")
    assert lacks["portable-avx2"] == ("avx2",)
    assert lacks["portable"] == ()
    assert not any(f.present for f in status.features if f.name != "aes")
    assert cli.main(["engines"]) == 0  # an old processor is no fault


def test_a_processor_that_has_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = play(monkeypatch, features=0)
    assert engines.get("auto").kernel == "portable"  # type: ignore[attr-defined]
    assert fake.tested == ["portable"]


@pytest.mark.parametrize("variant", ["avx", "VAES512", "portable ", "portable:", "native"])
def test_a_kernel_that_does_not_exist(variant: str) -> None:
    with pytest.raises(EngineUnavailableError) as caught:
        engines.get(f"native:{variant}")
    assert f"this build has no kernel '{variant}'; it has: {', '.join(NAMES)};" in str(caught.value)


def test_the_environment_chooses_a_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(engines.ENVIRONMENT_VARIABLE, "native:portable")
    assert SectorCipher(bytes(16)).engine == "native:portable"
    status = engines.status()
    assert (status.used, status.kernel) == ("native:portable", "portable")
    assert status.why.endswith("QCOW2CRYPT_ENGINE asks for 'native:portable'")
    monkeypatch.setenv(engines.ENVIRONMENT_VARIABLE, "native:none")
    with pytest.raises(EngineUnavailableError, match="QCOW2CRYPT_ENGINE asks for it"):
        engines.get()


def test_kernels_of_the_processor_are_there_and_work() -> None:
    """By another witness than our own detection: Linux says what the processor has."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text("utf-8").splitlines() if path.exists() else []
    flags = next((line.split(":")[1].split() for line in lines if line.startswith("flags")), None)
    if flags is None:
        pytest.skip("detection was not compared: there is no /proc/cpuinfo of an x86 here")
    expected = {"portable"}
    for kernel, needs in {
        "aesni": {"aes"},
        "portable-avx2": {"avx2"},
        "vaes256": {"aes", "avx2", "vaes"},
        "vaes512": {"aes", "avx2", "vaes", "avx512f"},
    }.items():
        if needs <= set(flags):
            expected.add(kernel)
    able = {kernel.name for kernel in engines.status().kernels if kernel.available}
    assert able == expected
    assert {f"native:{name}" for name in expected} <= set(every_engine.working())

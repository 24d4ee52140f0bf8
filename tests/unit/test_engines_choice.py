"""Which engine is taken, and what is said about one that cannot be."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

import qcow2crypt
from qcow2crypt import engines
from qcow2crypt.errors import ArgumentError, EngineUnavailableError

VARIABLE = "QCOW2CRYPT_ENGINE"


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    """No engine is loaded yet, and the environment asks for none."""
    monkeypatch.delenv(VARIABLE, raising=False)
    monkeypatch.setattr(engines, "_loaded", {})


@pytest.fixture
def no_native(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """As if the C kernels had not been compiled."""
    monkeypatch.delitem(sys.modules, "qcow2crypt.engines.native", raising=False)
    monkeypatch.setitem(sys.modules, "qcow2crypt._native", None)
    yield
    sys.modules.pop("qcow2crypt.engines.native", None)


@pytest.fixture
def no_pycryptodome(monkeypatch: pytest.MonkeyPatch, no_native: None) -> Iterator[None]:
    """As if neither they nor the package pycryptodome were there."""
    for name in list(sys.modules):
        if name == "Crypto" or name.startswith("Crypto."):
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.delitem(sys.modules, "qcow2crypt.engines.pycryptodome", raising=False)
    monkeypatch.setitem(sys.modules, "Crypto", None)
    yield
    sys.modules.pop("qcow2crypt.engines.pycryptodome", None)


def test_names_are_in_order_of_preference() -> None:
    assert engines.names() == ("native", "pycryptodome", "pure", "reference")


@pytest.mark.parametrize("name", engines.available())
def test_an_engine_has_the_name_it_is_asked_for_by(name: str) -> None:
    engine = engines.get(name)
    assert engine.name == name
    assert engines.get(name) is engine
    assert engines.get(engine) is engine


@pytest.mark.usefixtures("no_native")
def test_auto_takes_another_where_native_is_missing() -> None:
    assert engines.get().name == "pycryptodome"
    assert engines.status().used == "pycryptodome"


@pytest.mark.usefixtures("no_pycryptodome")
def test_auto_takes_pure_where_pycryptodome_is_missing_too() -> None:
    assert engines.get().name == "pure"
    assert engines.get("auto").name == "pure"


def test_auto_takes_the_first_that_works() -> None:
    assert engines.get().name == engines.available()[0]
    assert engines.get("auto") is engines.get()


def test_auto_never_takes_the_reference(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = tuple(row for row in engines._TABLE if row.name == "reference")
    monkeypatch.setattr(engines, "_TABLE", rows)
    assert engines.available() == ("reference",)
    with pytest.raises(EngineUnavailableError) as caught:
        engines.get()
    assert "engines that work here: reference" in str(caught.value)


def test_the_environment_chooses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "reference")
    assert engines.get().name == "reference"
    monkeypatch.setenv(VARIABLE, "pure")  # read at use, not once and for all
    assert engines.get().name == "pure"


@pytest.mark.parametrize("value", ["", "auto"])
def test_an_environment_that_chooses_nothing(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv(VARIABLE, value)
    assert engines.get().name == engines.available()[0]


def test_the_argument_beats_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "no such thing")
    assert engines.get("pure").name == "pure"
    assert engines.get("auto").name == engines.available()[0]


@pytest.mark.parametrize("name", ["fast", "Pure", " pure", "pure ", "", "vaes512"])
def test_a_name_that_is_not_known(name: str) -> None:
    with pytest.raises(EngineUnavailableError) as caught:
        engines.get(name)
    assert caught.value.name == name
    assert "there is no engine of this name" in str(caught.value)
    assert ", ".join(engines.available()) in str(caught.value)
    assert VARIABLE not in str(caught.value)


def test_the_message_says_that_the_environment_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "fast")
    with pytest.raises(EngineUnavailableError) as caught:
        engines.get()
    assert caught.value.name == "fast"
    assert f"the environment variable {VARIABLE} asks for it" in str(caught.value)
    assert "pure" in str(caught.value)


@pytest.mark.usefixtures("no_pycryptodome")
def test_an_engine_whose_package_is_missing() -> None:
    with pytest.raises(EngineUnavailableError) as caught:
        engines.get("pycryptodome")
    assert "pip install pycryptodome" in str(caught.value)
    assert "engines that work here: pure, reference" in str(caught.value)


@pytest.mark.usefixtures("no_pycryptodome")
def test_the_environment_is_kept_to_even_where_its_engine_is_missing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(VARIABLE, "pycryptodome")
    with pytest.raises(EngineUnavailableError, match=f"{VARIABLE} asks for it"):
        engines.get()


@pytest.mark.usefixtures("no_pycryptodome")
def test_the_status_of_an_engine_whose_package_is_missing() -> None:
    native, missing, pure, reference = engines.status().engines
    assert not native.available
    assert not missing.available
    assert "pip install pycryptodome" in missing.reason
    assert (pure.available, pure.reason) == (True, "")
    assert reference.available


def test_status_goes_with_names() -> None:
    status = engines.status().engines
    assert tuple(engine.name for engine in status) == engines.names()
    for engine in status:
        assert engine.summary
        assert engine.available == (not engine.reason)
    assert engines.available() == tuple(engine.name for engine in status if engine.available)


def test_status_says_what_is_used_and_why(monkeypatch: pytest.MonkeyPatch) -> None:
    status = engines.status()
    assert status.used == engines.get().name
    assert status.why == "auto takes the first that works here"
    monkeypatch.setenv(VARIABLE, "pure")
    status = engines.status()
    assert (status.used, status.kernel) == ("pure", "")
    assert status.why == f"the environment variable {VARIABLE} asks for 'pure'"
    monkeypatch.setenv(VARIABLE, "fast")
    status = engines.status()
    assert status.used == ""
    assert "there is no engine of this name" in status.why


@pytest.mark.usefixtures("no_native")
def test_native_where_it_was_not_compiled() -> None:
    for name in ("native", "native:portable"):
        with pytest.raises(EngineUnavailableError) as caught:
            engines.get(name)
        assert "QCOW2CRYPT_NATIVE=require" in str(caught.value)
    assert engines.status().kernels == ()


@pytest.mark.parametrize("wrong", [3, b"pure", object(), ["pure"]])
def test_what_is_no_engine(wrong: object) -> None:
    with pytest.raises(ArgumentError, match="an engine is chosen by name"):
        engines.get(wrong)  # type: ignore[arg-type]


def test_an_engine_without_variants() -> None:
    with pytest.raises(EngineUnavailableError, match="the engine 'pure' has no variants"):
        engines.get("pure:quick")


def test_a_colon_without_a_variant() -> None:
    with pytest.raises(EngineUnavailableError, match="the engine 'native' has no variant ''"):
        engines.get("native:")


def test_a_row_is_all_that_a_new_engine_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    """The seam, with a module that is an engine by form only: it has variants, and may fail."""
    asked = []

    def load(variant: str) -> engines.Engine:
        asked.append(variant)
        if variant == "broken":
            raise EngineUnavailableError("made-up:broken", "it does not run on this processor")
        return engines.get("pure")

    module = ModuleType("made_up_engine")
    module.load = load  # type: ignore[attr-defined]
    module.kernels = module.features = lambda: ()  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "made_up_engine", module)
    row = engines._Row("made-up", "made_up_engine", "a test", variants=True)
    monkeypatch.setattr(engines, "_TABLE", (row, *engines._TABLE))

    assert engines.names()[0] == "made-up"
    assert engines.get() is engines.get("pure")
    engines.get("made-up:quick")
    engines.get("made-up:quick")  # kept, not asked for again
    assert asked == ["", "quick"]
    with pytest.raises(EngineUnavailableError, match="does not run on this processor") as caught:
        engines.get("made-up:broken")
    assert caught.value.name == "made-up:broken"


@pytest.mark.parametrize("error", [ImportError("no such file"), OSError("cannot load library")])
def test_a_module_that_does_not_load(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def fail(_name: str) -> ModuleType:
        raise error

    monkeypatch.setattr(engines, "import_module", fail)
    status = engines.status()
    assert not any(engine.available for engine in status.engines)
    assert str(error) in status.engines[0].reason
    assert (status.used, status.kernel, status.kernels, status.features) == ("", "", (), ())
    assert str(error) in status.why


def test_nothing_is_imported_before_it_is_asked_for() -> None:
    program = (
        "import sys; from qcow2crypt import engines\n"
        "def there(): return [m for m in sys.modules if m.startswith(('Crypto', 'qcow2crypt.r'))\n"
        "    or m.startswith(('qcow2crypt.engines.p', 'qcow2crypt.engines.n', 'qcow2crypt._n'))]\n"
        "assert not there(), there()\n"
        "engines.get('pure')\n"
        "assert 'Crypto' not in sys.modules\n"
    )
    home = Path(qcow2crypt.__file__).parent.parent
    environment = {**os.environ, "PYTHONPATH": str(home)}
    done = subprocess.run(
        [sys.executable, "-c", program],
        check=False,
        capture_output=True,
        text=True,
        env=environment,
    )
    assert done.returncode == 0, done.stderr

"""Keys in C memory, closed and freed; and the GIL, which long calls do not hold.

That qc_key_free wipes what it frees is shown in C: c/wiping.c.
"""

from __future__ import annotations

import gc
import sys
import threading
from typing import Any

import pytest
from support import every_engine

from qcow2crypt import SectorCipher, engines
from qcow2crypt.errors import ArgumentError

native = pytest.importorskip(
    "qcow2crypt.engines.native", reason="no kernel was tested: none is compiled in"
)

each_kernel = pytest.mark.parametrize("name", every_engine.KERNELS)
KEY = b"0123456789abcdef"


@each_kernel
def test_a_closed_key(name: str) -> None:
    key: Any = every_engine.engine(name).expand_key(KEY)
    out = bytearray(512)
    key.cbc_encrypt(bytes(16), out, out)
    written = bytes(out)
    key.close()
    key.close()
    for work in (key.cbc_encrypt, key.cbc_decrypt):
        with pytest.raises(ArgumentError, match="this expanded key is closed"):
            work(bytes(16), out, out)
    with pytest.raises(ArgumentError, match="this expanded key is closed"):
        key.ecb_encrypt(out, out)
    assert out == written
    assert repr(key) == f"<expanded key of the engine '{name}', closed>"


class Spy:
    """The C side, with some of its functions in other words."""

    def __init__(self, **replaced: Any) -> None:
        self._replaced = replaced

    def __getattr__(self, name: str) -> Any:
        return self._replaced.get(name) or getattr(_LIB, name)


_LIB = native.lib


@pytest.fixture
def freed(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """The keys that were given to qc_key_free."""
    found: list[object] = []

    def free(key: Any) -> None:
        found.append(key)
        _LIB.qc_key_free(key)

    monkeypatch.setattr(native, "lib", Spy(qc_key_free=free))
    return found


def test_close_frees_at_once_and_only_once(freed: list[object]) -> None:
    key: Any = native.load().expand_key(KEY)
    assert not freed
    key.close()
    assert len(freed) == 1
    key.close()
    del key
    gc.collect()
    assert len(freed) == 1


def test_a_key_that_nobody_closes_is_freed_with_its_object(freed: list[object]) -> None:
    native.load().expand_key(KEY)
    gc.collect()
    assert len(freed) == 1


@pytest.mark.parametrize(("generator", "keys"), [("plain64", 1), ("essiv:sha256", 2)])
def test_closing_a_cipher_frees_its_keys(freed: list[object], generator: str, keys: int) -> None:
    cipher = SectorCipher(KEY, iv_generator=generator, engine="native")
    cipher.encrypt(bytes(512), 0)
    assert not freed
    cipher.close()
    assert len(freed) == keys


def test_a_call_keeps_its_key_while_another_thread_closes_it(freed: list[object]) -> None:
    """The last reference goes when the call is done, not before."""
    key: Any = native.load().expand_key(KEY)
    closed_inside = []

    def function(pointer: object, *rest: object) -> int:
        key.close()
        closed_inside.append(len(freed))
        return 0

    native._run(function, key._key, bytes(16), bytes(512), bytearray(512), 512)
    assert closed_inside == [0]
    gc.collect()
    assert len(freed) == 1


def test_a_long_call_lets_other_threads_run() -> None:
    """Nobody takes the GIL from a thread here, so the other one runs only if C lets go of it."""
    key = engines.get("native:portable").expand_key(KEY)
    data = bytearray(8 << 20)
    ivs = bytes(16 * (len(data) // 512))
    begun, done = threading.Event(), []

    def work() -> None:
        begun.set()
        key.cbc_encrypt(ivs, data, data)
        done.append(True)

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1000)
    try:
        thread = threading.Thread(target=work)
        thread.start()
        begun.wait()
        ran_meanwhile = not done
        thread.join()
    finally:
        sys.setswitchinterval(interval)
    assert ran_meanwhile
    assert done

"""What engines take for a buffer, and what they refuse before they write a byte."""

from __future__ import annotations

import ctypes
import mmap
from array import array
from collections.abc import Callable

import pytest
from support import every_engine

from qcow2crypt.engines import base
from qcow2crypt.errors import ArgumentError
from qcow2crypt.testing.runs import make_run

each_engine = pytest.mark.parametrize("name", every_engine.ENGINES)
each_way = pytest.mark.parametrize("way", ["cbc_encrypt", "cbc_decrypt"])
KEY = bytes(range(16))


def expected(way: str, ivs: bytes, data: bytes) -> bytes:
    out = bytearray(len(data))
    getattr(every_engine.engine("reference").expand_key(KEY), way)(ivs, data, out)
    return bytes(out)


@each_engine
@each_way
@pytest.mark.parametrize("form", ["bytes", "bytearray", "Q", "i", "b", "c", "2d", "ctypes"])
def test_forms_of_the_source(name: str, way: str, form: str) -> None:
    run = make_run(1, 5)
    sources: dict[str, object] = {
        "bytes": run.data,
        "bytearray": bytearray(run.data),
        "Q": memoryview(array("Q", run.data)),
        "i": memoryview(array("i", run.data)),
        "b": memoryview(array("b", run.data)),
        "c": memoryview(run.data).cast("c"),
        "2d": memoryview(run.data).cast("B", (5, 512)),
        "ctypes": memoryview((ctypes.c_int32 * (len(run.data) // 4)).from_buffer_copy(run.data)),
    }
    out = bytearray(len(run.data))
    ivs = memoryview(array("Q", run.ivs))
    getattr(every_engine.engine(name).expand_key(KEY), way)(ivs, sources[form], out)
    assert out == expected(way, run.ivs, run.data)


@each_engine
@each_way
@pytest.mark.parametrize("form", ["Q", "b", "2d", "ctypes", "mmap"])
def test_forms_of_the_target_in_place(name: str, way: str, form: str) -> None:
    run = make_run(2, 8)
    mapping = mmap.mmap(-1, mmap.PAGESIZE)
    mapping[: len(run.data)] = run.data
    targets: dict[str, memoryview] = {
        "Q": memoryview(array("Q", run.data)),
        "b": memoryview(array("b", run.data)),
        "2d": memoryview(bytearray(run.data)).cast("B", (8, 512)),
        "ctypes": memoryview((ctypes.c_int32 * (len(run.data) // 4)).from_buffer_copy(run.data)),
        "mmap": memoryview(mapping)[: len(run.data)],
    }
    target = targets[form]
    getattr(every_engine.engine(name).expand_key(KEY), way)(run.ivs, target, target)
    assert target.tobytes() == expected(way, run.ivs, run.data)
    targets.clear()
    target.release()


@each_engine
@each_way
def test_no_sectors_is_nothing_to_do(name: str, way: str) -> None:
    key = every_engine.engine(name).expand_key(KEY)
    getattr(key, way)(b"", b"", bytearray())
    getattr(key, way)(b"", b"", memoryview(bytearray()), 16)
    getattr(key, way)(b"", memoryview(array("Q")), memoryview(array("Q")))
    key.ecb_encrypt(b"", bytearray())


@each_engine
@each_way
@pytest.mark.parametrize(
    ("ivs", "src", "size", "sector_size", "message"),
    [
        (bytes(16), bytes(511), 511, 512, "511 bytes are not whole sectors of 512 bytes"),
        (bytes(16), bytes(16), 16, 512, "16 bytes are not whole sectors of 512 bytes"),
        (bytes(15), bytes(512), 512, 512, "1 sectors need 16 bytes of IVs, got 15"),
        (bytes(32), bytes(512), 512, 512, "1 sectors need 16 bytes of IVs, got 32"),
        (bytes(16), b"", 0, 512, "0 sectors need 0 bytes of IVs, got 16"),
        (bytes(16), bytes(512), 1024, 512, "output has 1024 bytes, input has 512"),
        (bytes(16), bytes(512), 0, 512, "output has 0 bytes, input has 512"),
        (bytes(16), bytes(512), 512, 0, "sector size 0 is not a positive multiple of 16"),
        (bytes(16), bytes(512), 512, -512, "sector size -512 is not"),
        (bytes(16), bytes(40), 40, 40, "sector size 40 is not"),
        (memoryview(bytes(32))[::2], bytes(512), 512, 512, "must be contiguous"),
        (bytes(16), memoryview(bytes(1024))[::2], 512, 512, "must be contiguous"),
        (bytes(16), memoryview(bytes(512))[::-1], 512, 512, "must be contiguous"),
        ("0" * 16, bytes(512), 512, 512, "a bytes-like object is needed, not str"),
        (bytes(16), [0] * 512, 512, 512, "a bytes-like object is needed, not list"),
        (bytes(16), None, 512, 512, "a bytes-like object is needed, not NoneType"),
    ],
)
def test_what_does_not_fit_is_refused_and_nothing_is_written(
    name: str, way: str, ivs: object, src: object, size: int, sector_size: int, message: str
) -> None:
    out = bytearray(b"\xee" * size)
    key = every_engine.engine(name).expand_key(KEY)
    with pytest.raises(ArgumentError, match=message):
        getattr(key, way)(ivs, src, out, sector_size)
    assert out == b"\xee" * size


@each_engine
@each_way
@pytest.mark.parametrize(
    ("dst", "message"),
    [
        (bytes(512), "the output buffer is read-only"),
        (memoryview(bytes(512)), "the output buffer is read-only"),
        (memoryview(bytearray(1024))[::2], "must be contiguous"),
    ],
)
def test_targets_that_are_refused(name: str, way: str, dst: object, message: str) -> None:
    key = every_engine.engine(name).expand_key(KEY)
    with pytest.raises(ArgumentError, match=message):
        getattr(key, way)(bytes(16), bytes(512), dst)


@each_engine
def test_ecb_refuses_what_does_not_fit(name: str) -> None:
    key = every_engine.engine(name).expand_key(KEY)
    with pytest.raises(ArgumentError, match="17 bytes are not whole blocks of 16 bytes"):
        key.ecb_encrypt(bytes(17), bytearray(17))
    with pytest.raises(ArgumentError, match="output has 16 bytes, input has 32"):
        key.ecb_encrypt(bytes(32), bytearray(16))
    with pytest.raises(ArgumentError, match="read-only"):
        key.ecb_encrypt(bytes(16), bytes(16))  # type: ignore[arg-type]


def test_a_shape_with_a_zero_in_it() -> None:
    empty = memoryview((ctypes.c_int32 * 4 * 0)())
    assert (empty.ndim, empty.nbytes) == (2, 0)
    assert base.byte_view(empty).nbytes == 0


@each_engine
@pytest.mark.parametrize("length", [0, 1, 8, 15, 17, 31, 33, 64])
def test_keys_of_another_length(name: str, length: int) -> None:
    with pytest.raises(ArgumentError, match=f"16, 24 or 32 bytes, not {length}"):
        every_engine.engine(name).expand_key(b"K" * length)


@each_engine
def test_keys_of_another_type(name: str) -> None:
    with pytest.raises(ArgumentError, match="an AES key is bytes, not str"):
        every_engine.engine(name).expand_key("k" * 16)  # type: ignore[arg-type]


@each_engine
@pytest.mark.parametrize("form", [bytearray, memoryview, lambda key: memoryview(array("Q", key))])
def test_keys_in_other_buffers(name: str, form: Callable[[bytes], bytes]) -> None:
    out = bytearray(16)
    every_engine.engine(name).expand_key(form(KEY)).ecb_encrypt(bytes(16), out)
    assert out.hex() == "c6a13b37878f5b826f4f8162a1c8d879"


@each_engine
def test_a_key_can_change_after_it_was_given(name: str) -> None:
    user_key = bytearray(KEY)
    key = every_engine.engine(name).expand_key(user_key)  # type: ignore[arg-type]
    user_key[:] = bytes(16)
    out = bytearray(16)
    key.ecb_encrypt(bytes(16), out)
    assert out.hex() == "c6a13b37878f5b826f4f8162a1c8d879"


@each_engine
def test_a_repr_shows_no_key(name: str) -> None:
    user_key = b"CAREFUL, SECRET!"
    key = every_engine.engine(name).expand_key(user_key)
    key.cbc_encrypt(bytes(160), bytes(5120), bytearray(5120))
    shown = f"{key!r} {key} {key!a}"
    assert name in shown
    assert "CAREFUL" not in shown
    assert user_key.hex() not in shown
    assert str(int.from_bytes(user_key[:4], "big")) not in shown

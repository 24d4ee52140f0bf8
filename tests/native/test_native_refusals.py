"""What the C side refuses, and that it then wrote nothing: overlaps, lengths, closed keys."""

from __future__ import annotations

from typing import Any

import pytest
from support import every_engine

from qcow2crypt.errors import ArgumentError
from qcow2crypt.testing.runs import make_run

pytest.importorskip("qcow2crypt._native", reason="no kernel was tested: none is compiled in")

KEY = bytes(range(16))
LENGTH = 9 * 512
IVS = make_run(21, 9).ivs
SHIFTS = (1, 8, 15, 16, 17, 511, 512, 513, 2048, LENGTH - 512, LENGTH - 16, LENGTH - 1)

each_kernel = pytest.mark.parametrize("name", every_engine.KERNELS)
each_way = pytest.mark.parametrize("way", ["cbc_encrypt", "cbc_decrypt"])


def memory() -> bytearray:
    return bytearray(make_run(22, 32).data)


@each_kernel
@each_way
@pytest.mark.parametrize("shift", [*SHIFTS, *(-shift for shift in SHIFTS)])
def test_a_partial_overlap(name: str, way: str, shift: int) -> None:
    work = getattr(every_engine.engine(name).expand_key(KEY), way)
    whole = memory()
    view = memoryview(whole)
    first = LENGTH
    with pytest.raises(ArgumentError, match="the output overlaps the input in part"):
        work(IVS, view[first : first + LENGTH], view[first + shift : first + shift + LENGTH])
    assert whole == memory()


@each_kernel
@pytest.mark.parametrize("shift", [16, 8, 1, -1, -8, -16])
def test_a_partial_overlap_of_blocks(name: str, shift: int) -> None:
    key = every_engine.engine(name).expand_key(KEY)
    whole = memory()
    view = memoryview(whole)
    with pytest.raises(ArgumentError, match="overlaps"):
        key.ecb_encrypt(view[512:1024], view[512 + shift : 1024 + shift])
    assert whole == memory()


@each_kernel
@each_way
@pytest.mark.parametrize("shift", [-9 * 16 + 1, -16, -1, 0, 1, 512, LENGTH - 1])
def test_ivs_in_the_output(name: str, way: str, shift: int) -> None:
    work = getattr(every_engine.engine(name).expand_key(KEY), way)
    whole = memory()
    view = memoryview(whole)
    dst = view[2048 : 2048 + LENGTH]
    ivs = view[2048 + shift : 2048 + shift + 9 * 16]
    for src in (bytes(LENGTH), dst):
        with pytest.raises(ArgumentError, match="overlaps"):
            work(ivs, src, dst)
    assert whole == memory()


@each_kernel
@each_way
def test_buffers_that_touch_do_not_overlap(name: str, way: str) -> None:
    work = getattr(every_engine.engine(name).expand_key(KEY), way)
    expected = bytearray(LENGTH)
    work(memory()[: 9 * 16], memory()[144 : 144 + LENGTH], expected)
    for swapped in (False, True):
        whole = memory()
        view = memoryview(whole)
        src, dst = view[144 : 144 + LENGTH], view[144 + LENGTH : 144 + 2 * LENGTH]
        if swapped:
            dst[:] = src
            src, dst = dst, src
        ivs = bytes(memory()[:144]) if swapped else view[:144]  # IVs, input, output in a row
        work(ivs, src, dst)
        assert dst == expected


SIZE_MAX = 2**64 - 1


@pytest.mark.skipif("sys.maxsize < 2**32")
@each_way
@pytest.mark.parametrize(
    ("ivs_length", "length", "sector_size", "status"),
    [
        # 16 * (2**60 + 1) is 16 modulo 2**64: one sector, to code that multiplies.
        (16, 2**60 + 1, 1, "QC_BAD_SECTOR"),
        (16, (2**60 + 1) * 16 % 2**64 + 2**63, 512, "QC_BAD_LENGTH"),
        (16, 2**63, 512, "QC_BAD_LENGTH"),
        (0, 2**63, 512, "QC_BAD_LENGTH"),
        (2**63, 512, 512, "QC_BAD_LENGTH"),
        (SIZE_MAX - 15, SIZE_MAX - 15, 16, "QC_OVERLAP"),  # whatever lies where, it must meet
        (SIZE_MAX, 512, 512, "QC_BAD_LENGTH"),
        (16, SIZE_MAX, 512, "QC_BAD_LENGTH"),
        (16, SIZE_MAX, SIZE_MAX, "QC_BAD_SECTOR"),
        (16, 512, SIZE_MAX - 15, "QC_BAD_LENGTH"),
        (16, 512, 0, "QC_BAD_SECTOR"),
        (0, 512, 512, "QC_BAD_LENGTH"),
        (17, 512, 512, "QC_BAD_LENGTH"),
        (16, 528, 512, "QC_BAD_LENGTH"),
    ],
)
def test_lengths_that_overflow(
    way: str, ivs_length: int, length: int, sector_size: int, status: str
) -> None:
    """Straight into C: no Python object is so long."""
    from qcow2crypt._native import ffi, lib

    key, ivs, src, out = c_key(), bytes(16), bytes(528), bytearray(528)
    target = ffi.from_buffer(ffi.typeof("uint8_t[]"), out, require_writable=True)
    function = getattr(lib, f"qc_{way}")
    given = function(key, ivs, ivs_length, src, target, length, sector_size)
    assert given == getattr(lib, status)
    assert out == bytes(528)


def test_blocks_and_sector_numbers_that_overflow() -> None:
    from qcow2crypt._native import ffi, lib

    key, out = c_key(), bytearray(64)
    target = ffi.from_buffer(ffi.typeof("uint8_t[]"), out, require_writable=True)
    for function in (lib.qc_ecb_encrypt, lib.qc_ecb_decrypt):
        assert function(key, bytes(64), target, SIZE_MAX) == lib.QC_BAD_LENGTH
        assert function(key, bytes(64), target, 17) == lib.QC_BAD_LENGTH
    assert lib.qc_plain64(SIZE_MAX - 2, target, 64) == lib.QC_OVERFLOW
    assert lib.qc_plain64(0, target, 63) == lib.QC_BAD_LENGTH
    assert out == bytes(64)
    assert lib.qc_plain64(SIZE_MAX - 3, target, 64) == lib.QC_OK
    assert out[48:] == b"\xff" * 8 + bytes(8)


@pytest.mark.parametrize("length", [0, 1, 15, 17, 31, 33, 2**31, SIZE_MAX])
def test_keys_that_c_refuses(length: int) -> None:
    from qcow2crypt._native import ffi, lib

    status = ffi.new("qc_status *")
    assert lib.qc_key_new(0, bytes(32), length, status) == ffi.NULL
    assert status[0] in (lib.QC_BAD_KEY, lib.QC_NO_FEATURE)


@pytest.mark.parametrize("number", [-1, 1000])
def test_kernels_that_are_not_there(number: int) -> None:
    from qcow2crypt._native import ffi, lib

    status = ffi.new("qc_status *")
    assert lib.qc_self_test(number) == lib.QC_NO_KERNEL
    assert lib.qc_key_new(number, bytes(16), 16, status) == ffi.NULL
    assert status[0] == lib.QC_NO_KERNEL
    assert lib.qc_kernel_name(number) == ffi.NULL
    assert lib.qc_kernel_needs(number) == 0


def c_key() -> Any:
    """A key of the kernel that runs everywhere."""
    from qcow2crypt._native import ffi, lib

    status = ffi.new("qc_status *")
    key = lib.qc_key_new(lib.qc_kernel_count() - 1, KEY, len(KEY), status)
    assert status[0] == lib.QC_OK
    return ffi.gc(key, lib.qc_key_free)

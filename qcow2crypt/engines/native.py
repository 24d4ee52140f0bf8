"""The engine ``native``: the C kernels of csrc/, one for each instruction set.

``native`` takes the best kernel that this processor can run, ``native:aesni`` and the like take the
one that is named.  Before its first use in a process a kernel is tested against known answers and
against the portable kernel.  If it fails, that is an error for whoever asked, ``auto`` included: a
processor that computes wrong bytes is nothing to pass over in silence.

The C side checks every argument before it writes a byte, so a call goes straight there.  Only one
that it did not take is looked at again, to say in words what was wrong.  Other threads run while C
works: cffi lets go of the GIL.

Keys lie in C memory and are wiped there, see ``NativeKey.close``.

Knows keys, IVs and buffers, and how numbers become IVs, not what they count.  Nobody else imports
``qcow2crypt._native``.  Follows csrc/qcow2crypt.h.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple, NoReturn

from qcow2crypt._native import ffi, lib
from qcow2crypt.engines.base import byte_view, check_blocks, check_key, check_run
from qcow2crypt.engines.report import Feature, KernelStatus
from qcow2crypt.errors import ArgumentError, EngineUnavailableError, SelfTestError
from qcow2crypt.units import BLOCK_SIZE, ReadBuffer, WriteBuffer

if TYPE_CHECKING:
    from qcow2crypt._native import Bytes, Pointer

    _Cbc = Callable[[Pointer | None, Bytes, int, Bytes, Pointer, int, int], int]

_BYTES = ffi.typeof("uint8_t[]")
_memory_of = ffi.from_buffer
_encrypt, _decrypt, _encrypt_blocks = lib.qc_cbc_encrypt, lib.qc_cbc_decrypt, lib.qc_ecb_encrypt
_plain64 = lib.qc_plain64

_NOT_TAKEN = (TypeError, ValueError, BufferError, OverflowError)
"""What cffi raises for an argument that has no C form: no buffer, read-only, a negative size."""

# By the names of Linux in /proc/cpuinfo, but for the last, which is "aes" there too.
_FEATURES = {
    lib.QC_FEATURE_AES: "aes",
    lib.QC_FEATURE_AVX2: "avx2",
    lib.QC_FEATURE_VAES: "vaes",
    lib.QC_FEATURE_AVX512F: "avx512f",
    lib.QC_FEATURE_NEON_AES: "neon-aes",
}

_REFUSALS = {
    lib.QC_BAD_KEY: "an AES key has 16, 24 or 32 bytes",
    lib.QC_BAD_SECTOR: f"the sector size is not a positive multiple of {BLOCK_SIZE}",
    lib.QC_BAD_LENGTH: "the lengths are not whole sectors with one IV for each",
    lib.QC_OVERLAP: (
        "the output overlaps the input in part, or the IVs: it must be the same memory as the "
        "input or lie apart from both"
    ),
    lib.QC_OVERFLOW: "sector numbers are not all in 0 to 2**64 - 1",
}


class _Kernel(NamedTuple):
    """One row of the table in csrc/dispatch.c.  ``number`` is its place there, best first."""

    number: int
    name: str
    needs: int

    @property
    def lacks(self) -> tuple[str, ...]:
        """The features that it needs and this processor does not have; none if it can run."""
        return _feature_names(self.needs & ~lib.qc_cpu_features())


class NativeKey:
    """An expanded key of the engine ``native``.  See ``ExpandedKey``."""

    __slots__ = ("_key", "_name")

    def __init__(self, name: str, kernel: int, key: bytes) -> None:
        check_key(key)
        status = ffi.new("qc_status *")
        user_key = _memory_of(_BYTES, byte_view(key))  # no copy: there would be one more to wipe
        made = lib.qc_key_new(kernel, user_key, len(user_key), status)
        if status[0]:
            _refuse(status[0])
        self._name = name
        self._key: Pointer | None = ffi.gc(made, lib.qc_key_free)

    def __repr__(self) -> str:
        state = ", closed" if self._key is None else ""
        return f"<expanded key of the engine '{self._name}'{state}>"

    def cbc_encrypt(
        self, ivs: ReadBuffer, src: ReadBuffer, dst: WriteBuffer, sector_size: int = 512
    ) -> None:
        """Encrypt every sector of ``src`` into ``dst``."""
        _run(_encrypt, self._key, ivs, src, dst, sector_size)

    def cbc_decrypt(
        self, ivs: ReadBuffer, src: ReadBuffer, dst: WriteBuffer, sector_size: int = 512
    ) -> None:
        """Decrypt every sector of ``src`` into ``dst``."""
        _run(_decrypt, self._key, ivs, src, dst, sector_size)

    def ecb_encrypt(self, src: ReadBuffer, dst: WriteBuffer) -> None:
        """Encrypt every block of ``src`` into ``dst``."""
        check_blocks(src, dst)
        source, target = _memory_of(_BYTES, byte_view(src)), _memory_of(_BYTES, byte_view(dst))
        status = _encrypt_blocks(_open(self._key), source, target, len(source))
        if status:
            _refuse(status)

    def close(self) -> None:
        """Wipe the expanded key.  After that it cannot be used; to close again is no error.

        A call that another thread is in the middle of keeps the key until it is done.  A key
        that nobody closes is wiped when Python frees it.

        Wiped is what C holds: the round keys.  The ``bytes`` that the key was given in, and the
        passphrase behind them, are Python's.  CPython frees such objects without writing over
        them and may have copied them before, so they can stay in memory until it is used anew.
        C code can leave single round keys in registers and on the stack.  Whoever needs keys
        gone for certain must end the process.
        """
        self._key = None


class NativeEngine:
    """See ``Engine``.  ``kernel`` names the C kernel that does the work."""

    def __init__(self, name: str, kernel: str, number: int) -> None:
        self.name = name
        self.kernel = kernel
        self._number = number

    def __repr__(self) -> str:
        return f"<engine '{self.name}', kernel {self.kernel}>"

    def expand_key(self, key: bytes) -> NativeKey:
        """Make the key schedule.  Raises ArgumentError for a key of another length."""
        return NativeKey(self.name, self._number, key)

    def plain64(self, first: int, count: int) -> bytearray:
        """See ``Plain64Engine``.  In Python this takes as long as the AES itself."""
        ivs = bytearray(BLOCK_SIZE * count)
        status = _plain64(first, _memory_of(_BYTES, ivs), len(ivs))
        if status:
            _refuse(status)
        return ivs


def load(variant: str = "") -> NativeEngine:
    """The engine with the kernel ``variant``, tested; the best one of this processor for "".

    Raises EngineUnavailableError for a kernel that is not in this build or lacks a feature of
    the processor, SelfTestError for one that gives wrong bytes.
    """
    kernels = _kernels()
    if not variant:
        kernel = next(kernel for kernel in kernels if not kernel.lacks)
    else:
        named = [kernel for kernel in kernels if kernel.name == variant]
        if not named:
            names = ", ".join(kernel.name for kernel in kernels)
            raise EngineUnavailableError(
                f"native:{variant}", f"this build has no kernel '{variant}'; it has: {names}"
            )
        kernel = named[0]
        if kernel.lacks:
            raise EngineUnavailableError(f"native:{variant}", _cannot_run(kernel))
    _test(kernel)
    return NativeEngine(f"native:{variant}" if variant else "native", kernel.name, kernel.number)


def features() -> tuple[Feature, ...]:
    """What the kernels of this build ask of a processor, and whether this one has it."""
    wanted, here = 0, lib.qc_cpu_features()
    for kernel in _kernels():
        wanted |= kernel.needs
    return tuple(Feature(name, bool(bit & here)) for bit, name in _FEATURES.items() if bit & wanted)


def kernels() -> tuple[KernelStatus, ...]:
    """How it stands with each kernel of this build, best first.  Tests those that can run."""
    return tuple(_status(kernel) for kernel in _kernels())


def _status(kernel: _Kernel) -> KernelStatus:
    lacks = kernel.lacks
    reason = _cannot_run(kernel) if lacks else ""
    if not lacks:
        try:
            _test(kernel)
        except SelfTestError as error:
            reason = error.reason
    return KernelStatus(kernel.name, not reason, reason, _feature_names(kernel.needs), lacks)


def _kernels() -> tuple[_Kernel, ...]:
    """The kernels of this build, best first."""
    return tuple(
        _Kernel(
            number, ffi.string(lib.qc_kernel_name(number)).decode(), lib.qc_kernel_needs(number)
        )
        for number in range(lib.qc_kernel_count())
    )


def _feature_names(bits: int) -> tuple[str, ...]:
    return tuple(name for bit, name in _FEATURES.items() if bits & bit)


def _cannot_run(kernel: _Kernel) -> str:
    return (
        f"the kernel '{kernel.name}' needs {', '.join(_feature_names(kernel.needs))}; this "
        f"processor, or its operating system, lacks {', '.join(kernel.lacks)}"
    )


_test_results: dict[int, int] = {}
_testing = threading.Lock()


def _test(kernel: _Kernel) -> None:
    """Have ``kernel`` tested once in this process.  Raises SelfTestError, now and ever after."""
    with _testing:
        if kernel.number not in _test_results:
            status = lib.qc_self_test(kernel.number)
            if status == lib.QC_NO_MEMORY:  # tells nothing about the kernel: try again next time
                raise MemoryError
            _test_results[kernel.number] = status
        status = _test_results[kernel.number]
    if status:
        raise SelfTestError(
            f"native:{kernel.name}",
            f"the kernel '{kernel.name}' failed its self-test: it gives wrong bytes on this "
            "processor. Please report it. Until then choose an engine by name, such as "
            "native:portable or pure",
        )


def _run(  # noqa: PLR0917 - keywords take time, too
    function: _Cbc,
    key: Pointer | None,
    ivs: ReadBuffer,
    src: ReadBuffer,
    dst: WriteBuffer,
    sector_size: int,
) -> None:
    """One CBC call.  Every line here counts: for one sector it takes longer than the kernel."""
    try:
        target = _memory_of(_BYTES, dst, True)  # noqa: FBT003 - a keyword doubles its time
        source = target if src is dst else src if type(src) is bytes else _memory_of(_BYTES, src)
        iv_bytes = ivs if type(ivs) is bytes else _memory_of(_BYTES, ivs)
        length = len(source)
        if length == len(target) and not function(
            key, iv_bytes, len(iv_bytes), source, target, length, sector_size
        ):
            return
    except _NOT_TAKEN:
        pass
    _run_carefully(function, _open(key), ivs, src, dst, sector_size)


def _run_carefully(  # noqa: PLR0917 - as _run
    function: _Cbc,
    key: Pointer,
    ivs: ReadBuffer,
    src: ReadBuffer,
    dst: WriteBuffer,
    sector_size: int,
) -> None:
    """The same call, which C or cffi did not take, again: nothing was written yet.

    Most often ``check_run`` says why.  What is left then is a partial overlap, which only C can
    see, and a buffer of a form that cffi does not know.
    """
    check_run(ivs, src, dst, sector_size)
    target, source, iv_bytes = (_memory_of(_BYTES, byte_view(b)) for b in (dst, src, ivs))
    status = function(key, iv_bytes, len(iv_bytes), source, target, len(source), sector_size)
    if status:
        _refuse(status)


def _open(key: Pointer | None) -> Pointer:
    if key is None:
        raise ArgumentError("this expanded key is closed: make a new one")
    return key


def _refuse(status: int) -> NoReturn:
    """Raise the error for a status of the C side.  The one place for it."""
    if status == lib.QC_NO_MEMORY:
        raise MemoryError
    raise ArgumentError(_REFUSALS.get(status, f"the C side refused the call: status {status}"))

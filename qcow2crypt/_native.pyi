"""The typed face of the compiled C part, which cffi makes from csrc/qcow2crypt.h.

Every C pointer has the one type ``Pointer`` here; which goes where is for cffi to check.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias, final

from qcow2crypt.units import ReadBuffer

@final
class _Type: ...

@final
class Pointer:
    def __len__(self) -> int: ...
    def __getitem__(self, index: int) -> int: ...

Bytes: TypeAlias = bytes | Pointer

@final
class _FFI:
    NULL: Pointer
    def typeof(self, declaration: str) -> _Type: ...
    def new(self, declaration: str) -> Pointer: ...
    def gc(self, pointer: Pointer, destructor: Callable[[Pointer], None]) -> Pointer: ...
    def string(self, pointer: Pointer) -> bytes: ...
    def from_buffer(
        self, declaration: _Type, buffer: ReadBuffer, require_writable: bool = ...
    ) -> Pointer: ...

@final
class _Lib:
    QC_OK: int
    QC_NO_KERNEL: int
    QC_NO_FEATURE: int
    QC_BAD_KEY: int
    QC_BAD_SECTOR: int
    QC_BAD_LENGTH: int
    QC_OVERLAP: int
    QC_OVERFLOW: int
    QC_NO_MEMORY: int
    QC_SELF_TEST: int
    QC_FEATURE_AES: int
    QC_FEATURE_AVX2: int
    QC_FEATURE_VAES: int
    QC_FEATURE_AVX512F: int
    QC_FEATURE_NEON_AES: int
    def qc_cpu_features(self) -> int: ...
    def qc_kernel_count(self) -> int: ...
    def qc_kernel_name(self, kernel: int) -> Pointer: ...
    def qc_kernel_needs(self, kernel: int) -> int: ...
    def qc_self_test(self, kernel: int) -> int: ...
    def qc_key_new(self, kernel: int, key: Bytes, length: int, status: Pointer) -> Pointer: ...
    def qc_key_free(self, key: Pointer) -> None: ...
    def qc_cbc_encrypt(
        self,
        key: Pointer | None,
        ivs: Bytes,
        ivs_length: int,
        src: Bytes,
        dst: Pointer,
        length: int,
        sector_size: int,
    ) -> int: ...
    def qc_cbc_decrypt(
        self,
        key: Pointer | None,
        ivs: Bytes,
        ivs_length: int,
        src: Bytes,
        dst: Pointer,
        length: int,
        sector_size: int,
    ) -> int: ...
    def qc_ecb_encrypt(self, key: Pointer, src: Bytes, dst: Pointer, length: int) -> int: ...
    def qc_ecb_decrypt(self, key: Pointer, src: Bytes, dst: Pointer, length: int) -> int: ...
    def qc_plain64(self, first_sector: int, ivs: Pointer, length: int) -> int: ...

ffi: _FFI
lib: _Lib

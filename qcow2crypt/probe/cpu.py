"""What does this processor offer for AES, by its own word and by that of the kernel?

CPUID is asked by a few bytes of machine code in memory of our own; Linux says the same, or not, in
/proc/cpuinfo: a kernel can hide what it was told to hide, a machine that emulates what it lacks.
Follows the Intel 64 and IA-32 Software Developer's Manual, volume 2, CPUID and XGETBV.
"""

from __future__ import annotations

import ctypes
import mmap
import platform
import sys
from pathlib import Path
from typing import NamedTuple

# In: leaf, subleaf, place for eax, ebx, ecx, edx.  By the calling convention of Unix on x86-64:
# push rbx; mov eax,edi; mov ecx,esi; mov r8,rdx; cpuid; mov [r8],eax; ... ; pop rbx; ret
_CPUID = bytes.fromhex("53 89f8 89f1 4989d0 0fa2 418900 41895804 41894808 4189500c 5b c3")
# xor ecx,ecx; xgetbv; ret (the low half is all that is asked)
_XGETBV = bytes.fromhex("31c9 0f01d0 c3")

_VECTORS, _WIDE = 0x6, 0xE6
"""State that the operating system must save: of AVX, and of AVX-512."""

_BITS = {
    "aes": (1, 2, 25),
    "pclmulqdq": (1, 2, 1),
    "ssse3": (1, 2, 9),
    "avx": (1, 2, 28),
    "avx2": (7, 1, 5),
    "vaes": (7, 2, 9),
    "vpclmulqdq": (7, 2, 10),
    "avx512f": (7, 1, 16),
    "avx512vl": (7, 1, 31),
}
"""Feature: leaf, register (0 is eax), bit."""
_STATE = {"avx": _VECTORS, "avx2": _VECTORS, "vaes": _VECTORS, "vpclmulqdq": _VECTORS}
_STATE |= {"avx512f": _WIDE, "avx512vl": _WIDE}
_ARM = ("aes", "pmull")


class Feature(NamedTuple):
    """One feature; None where that source cannot be asked."""

    name: str
    by_cpuid: bool | None
    by_kernel: bool | None


class Cpu(NamedTuple):
    """The processor.  ``why`` says what could not be asked, empty if nothing."""

    model: str
    machine: str
    features: tuple[Feature, ...]
    why: str = ""

    def has(self, name: str) -> bool | None:
        """Can programs use the feature?  CPUID is what they ask; None where nobody knows."""
        found = next((each for each in self.features if each.name == name), None)
        if found is None:
            return None
        return found.by_kernel if found.by_cpuid is None else found.by_cpuid

    @property
    def disagreements(self) -> tuple[Feature, ...]:
        """Features of which the processor says one thing and the kernel another."""
        return tuple(
            each
            for each in self.features
            if None not in {each.by_cpuid, each.by_kernel} and each.by_cpuid != each.by_kernel
        )


def look() -> Cpu:
    """Ask whatever can be asked here."""
    machine = platform.machine()
    flags, model = _cpuinfo()
    if machine.lower() not in {"x86_64", "amd64"}:
        names = _ARM if machine in {"aarch64", "arm64"} else ()
        why = "CPUID is for x86-64 only" if flags else "this system does not tell of its processor"
        rows = tuple(Feature(name, None, name in flags if flags else None) for name in names)
        return Cpu(model or platform.processor(), machine, rows, why)
    try:
        told = _ask()
        why = ""
    except (OSError, ValueError, AttributeError) as error:
        told, why = {}, f"CPUID cannot be asked: {error}"
    rows = tuple(Feature(name, told.get(name), name in flags if flags else None) for name in _BITS)
    return Cpu(model or platform.processor(), machine, rows, why)


def _cpuinfo() -> tuple[frozenset[str], str]:
    """Flags and model by Linux; nothing elsewhere."""
    try:
        text = Path("/proc/cpuinfo").read_text("utf-8", "replace")
    except OSError:
        return frozenset(), ""
    return parse_cpuinfo(text)


def parse_cpuinfo(text: str) -> tuple[frozenset[str], str]:
    """Flags and model of the first processor in /proc/cpuinfo, of x86 or of ARM."""
    fields: dict[str, str] = {}
    for line in text.splitlines():
        key, _, value = line.partition(":")
        fields.setdefault(key.strip(), value.strip())
    flags = fields.get("flags", "") or fields.get("Features", "")
    return frozenset(flags.split()), fields.get("model name", "")


def _ask() -> dict[str, bool]:
    """Every feature by CPUID, and with it by the state that the operating system saves."""
    if sys.platform == "win32":
        raise OSError("there is no way to it on this system")
    with _Code() as code:
        most = code.cpuid(0)[0]
        leaves = {leaf: code.cpuid(leaf) if leaf <= most else (0,) * 4 for leaf in (1, 7)}
        saves = code.saved_state() if leaves[1][2] >> 27 & 1 else 0  # OSXSAVE
    return {
        name: bool(leaves[leaf][register] >> bit & 1)
        and saves & _STATE.get(name, 0) == _STATE.get(name, 0)
        for name, (leaf, register, bit) in _BITS.items()
    }


class _Code:
    """A piece of memory with the two functions, as long as the context lasts."""

    def __enter__(self) -> _Code:
        access = mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC
        self._memory = mmap.mmap(-1, mmap.PAGESIZE, prot=access)
        self._memory[: len(_CPUID)] = _CPUID
        self._memory[64 : 64 + len(_XGETBV)] = _XGETBV
        self._view = ctypes.c_char.from_buffer(self._memory)
        self._start = ctypes.addressof(self._view)
        return self

    def __exit__(self, *error: object) -> None:
        del self._view
        self._memory.close()

    def cpuid(self, leaf: int, subleaf: int = 0) -> tuple[int, ...]:
        """eax, ebx, ecx, edx."""
        result = (ctypes.c_uint32 * 4)()
        kind = ctypes.CFUNCTYPE(None, ctypes.c_uint32, ctypes.c_uint32, ctypes.c_void_p)
        kind(self._start)(leaf, subleaf, ctypes.addressof(result))
        return tuple(result)

    def saved_state(self) -> int:
        """XCR0: which registers the operating system saves."""
        found: int = ctypes.CFUNCTYPE(ctypes.c_uint32)(self._start + 64)()
        return found

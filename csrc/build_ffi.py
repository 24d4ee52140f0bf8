"""How the C kernels become the module ``qcow2crypt._native``: read by cffi when setup.py runs.

The declarations are those of the public header, between its two marks: they stand there once.

No flag here chooses an instruction set.  Each kernel names its own in function attributes, so one
library holds them all, and a processor is asked at run time which of them it has.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

from cffi import FFI

FOLDER = Path(__file__).resolve().parent
HEADER = FOLDER / "qcow2crypt.h"
# In the order of the reading list in README.md.
SOURCES = (
    "cpu.c",
    "dispatch.c",
    "key.c",
    "selftest.c",
    "kernel_portable.c",
    "kernel_portable_avx2.c",
    "kernel_aesni.c",
    "kernel_vaes256.c",
    "kernel_vaes512.c",
    "kernel_armv8.c",
)
FLAGS = ["-std=c11", "-O3", "-g0", "-Wall", "-Wextra", "-fvisibility=hidden"]


def declarations() -> str:
    """What cffi reads of the header: C without a preprocessor, but for plain numbers."""
    found = re.search(
        r"/\* cffi begin \*/(.*)/\* cffi end \*/", HEADER.read_text(encoding="utf-8"), re.DOTALL
    )
    if found is None:
        sys.exit(f"{HEADER} has lost its marks for cffi")
    return found[1]


def make() -> FFI:
    """What setup.py names in ``cffi_modules``.  Paths are relative: an sdist knows no others."""
    ffi = FFI()
    ffi.cdef(declarations())
    ffi.set_source(
        "qcow2crypt._native",
        f'#include "{HEADER.name}"',
        sources=[f"{FOLDER.name}/{name}" for name in SOURCES],
        depends=[f"{FOLDER.name}/{path.name}" for path in sorted(FOLDER.glob("*.h"))],
        include_dirs=[FOLDER.name],
        extra_compile_args=FLAGS,
        py_limited_api=True,  # one build for every CPython from 3.10 on
    )
    return ffi

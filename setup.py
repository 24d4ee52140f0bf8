"""The build, as far as pyproject.toml cannot say it: the C kernels, or a package without them.

QCOW2CRYPT_NATIVE in the environment says what is wanted:

    auto      compile csrc/; if that fails, say so and make the package without it (the default)
    require   compile csrc/, or fail
    off       do not compile: a wheel for any platform (py3-none-any)

What was compiled before never stands in for what does not compile now: it is removed first.
"""

from __future__ import annotations

import os
import sys
import sysconfig
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from setuptools import Distribution, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build import build
from setuptools.command.build_ext import build_ext
from setuptools.command.editable_wheel import editable_wheel
from setuptools.errors import BaseError, CompileError, LinkError

MODES = ("auto", "require", "off")
OLDEST = "cp310"  # the stable ABI of this CPython: one wheel for it and all later ones
ROOT = Path(__file__).resolve().parent
COMPILED = ("_native.*.so", "_native.so", "_native.*.pyd", "_native.pyd", "_native.*.dylib")


def mode() -> str:
    """What is wanted.  Ends the build for a word that is none of MODES."""
    word = os.environ.get("QCOW2CRYPT_NATIVE", "") or "auto"
    if word not in MODES:
        sys.exit(f"QCOW2CRYPT_NATIVE is {' or '.join(MODES)}, not '{word}'")
    return word


def remove_compiled(folder: Path) -> None:
    """Remove what an earlier build left in ``folder``."""
    for pattern in COMPILED:
        for path in folder.glob(pattern):
            path.unlink()


def do_without(distribution: Distribution, reason: object) -> None:
    """Go on without the C kernels if that is allowed, and say it so that it is seen."""
    if mode() == "require":
        sys.exit(f"QCOW2CRYPT_NATIVE=require, and the C kernels were not compiled: {reason}")
    distribution.ext_modules = []
    line = "*" * 78
    print(
        f"{line}\nThe C kernels were not compiled: {reason}\n"
        "The package works without them, much slower: the engine `native` is missing.\n"
        "To have it: install a C compiler and the headers of Python (Debian: gcc,\n"
        "python3-dev) and install again with QCOW2CRYPT_NATIVE=require.\n"
        f"{line}",
        file=sys.stderr,
    )


class Build(build):
    """``build`` from a clean place."""

    def run(self) -> None:
        remove_compiled(Path(self.build_lib, "qcow2crypt"))
        super().run()


class BuildExt(build_ext):
    """``build_ext`` that may fail.  cffi makes its own command of this one."""

    def run(self) -> None:
        self.force = True  # objects of another compiler, or of another header, are no use
        try:
            super().run()
        except (BaseError, CompileError, LinkError, OSError) as error:
            self.extensions = []
            do_without(self.distribution, error)


class EditableWheel(editable_wheel):
    """An editable installation, whose compiled part stands in the source tree."""

    def run(self) -> None:
        remove_compiled(ROOT / "qcow2crypt")
        super().run()


class BdistWheel(bdist_wheel):
    """``bdist_wheel`` that looks at what was built before it chooses the tag of the wheel."""

    def run(self) -> None:
        if not self.skip_build:
            self.run_command("build")
        self.root_is_pure = not self.distribution.has_ext_modules()
        if self.root_is_pure:
            self.py_limited_api = False
        super().run()


def wanted() -> dict[str, Any]:
    """What setup() shall do about C."""
    if mode() == "off":
        return {}
    if find_spec("cffi") is None:
        do_without(Distribution(), "the Python package cffi is not installed")
        return {}
    # A free-threaded CPython has no stable ABI: its wheel is for that version alone.
    stable = not sysconfig.get_config_var("Py_GIL_DISABLED")
    return {
        "cffi_modules": ["csrc/build_ffi.py:make"],
        "options": {"bdist_wheel": {"py_limited_api": OLDEST}} if stable else {},
    }


setup(
    cmdclass={
        "bdist_wheel": BdistWheel,
        "build": Build,
        "build_ext": BuildExt,
        "editable_wheel": EditableWheel,
    },
    **wanted(),
)

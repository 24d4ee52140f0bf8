"""The build, as far as pyproject.toml cannot say it: today nothing.

There is no C extension yet, so every wheel is pure Python (py3-none-any).  The C kernels in
csrc/ will be built from here through cffi, which is then needed at build time only.
"""

from __future__ import annotations

from setuptools import setup

setup()

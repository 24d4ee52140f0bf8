"""The engines and kernels that tests run over, and honest skips for those that do not work here."""

from __future__ import annotations

import pytest

from qcow2crypt import engines
from qcow2crypt.errors import EngineUnavailableError

# Each kernel of this build, whether or not this processor can run it: one that it cannot is
# skipped by name.
KERNELS = tuple(f"native:{kernel.name}" for kernel in engines.status().kernels)
ENGINES = (*engines.names(), *KERNELS)


def working() -> list[str]:
    """The names in ENGINES that can be had here."""
    able = {f"native:{kernel.name}" for kernel in engines.status().kernels if kernel.available}
    return [*engines.available(), *(name for name in KERNELS if name in able)]


def engine(name: str) -> engines.Engine:
    """The engine ``name``; where it does not work, the test is skipped and the summary says so."""
    try:
        return engines.get(name)
    except EngineUnavailableError as error:
        pytest.skip(f"the engine '{name}' was not tested: {error.reason}")

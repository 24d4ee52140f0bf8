"""The C kernels are here at all: where they must be, that they are missing is no skip."""

from __future__ import annotations

import os
from importlib.util import find_spec

import pytest

from qcow2crypt import engines


def test_the_kernels_are_compiled_in() -> None:
    if find_spec("qcow2crypt._native") is None:
        reason = "no C kernel was tested: none is compiled in"
        if os.environ.get("QCOW2CRYPT_NATIVE") == "require":
            pytest.fail(f"{reason}, and QCOW2CRYPT_NATIVE=require", pytrace=False)
        pytest.skip(reason)
    status = engines.status()
    assert status.engines[0].name == "native"
    assert status.engines[0].available, status.engines[0].reason
    assert status.kernels[-1].name == "portable"

"""Can a program be looked into on this system at all?"""

from __future__ import annotations

import platform
import sys


def why_no_proof() -> str:
    """Why no program can be looked into here; empty on Linux on x86-64."""
    if sys.platform != "linux":
        return (
            f"a running program can be looked into on Linux only, and this is {platform.system()}"
        )
    if platform.machine() != "x86_64":
        return (
            "the AES instructions that are looked for are those of x86-64, and this processor is "
            f"{platform.machine()}"
        )
    if sys.maxsize < 2**32:
        return "this is a 32-bit Python"
    return ""

"""What a reader needs to know of the machine to make sense of figures.  Reads files of Linux."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import qcow2crypt
from qcow2crypt import engines
from qcow2crypt.bench.cipher import without_instructions
from qcow2crypt.bench.workfolder import file_system


def cpu() -> str:
    """The model of the processor."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.processor() or platform.machine()


def processors() -> int:
    """How many processors this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def load() -> float | None:
    """How many processes wanted a processor in the last minute; None where nobody counts."""
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else None


def circumstances(
    folder: Path, programs: Mapping[str, str], before: float | None
) -> dict[str, Any]:
    """All of it, as plain values.  ``before`` is the load before the run."""
    status = engines.status()
    return {
        "date": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
        "qcow2crypt": qcow2crypt.__version__,
        "engine": status.used,
        "kernel": status.kernel or None,
        "engine-without-aes": without_instructions(),
        "cpu": cpu(),
        "processors": processors(),
        "features": [feature.name for feature in status.features if feature.present],
        "load-before": None if before is None else round(before, 2),
        "system": f"{platform.system()} {platform.machine()} {platform.release()}",
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "file-system": file_system(folder),
        "programs": dict(programs),
    }

"""Does the installed package work here, with all of its C kernels or without any?

    python -I tools/check_installed.py native    # compiled kernels must be there, and right
    python -I tools/check_installed.py pure      # none may be there, and all must work

For wheels, on whatever machine they are built for: needs nothing but the package.  Each engine and
each kernel that this processor can run is compared with the textbook, after its own self-test.
"""

from __future__ import annotations

import sys
from pathlib import Path

from qcow2crypt import SectorCipher, engines
from qcow2crypt.explaining import page

SECTORS = 67  # past the widest group of sectors, and odd
KEY_SIZES = (16, 24, 32)


def problems(kind: str) -> list[str]:
    """All that is wrong, a sentence each."""
    status = engines.status()
    found = []
    if (kind == "native") is not bool(status.kernels):
        found.append(f"it should be {kind}, but its kernels are {status.kernels}")
    if not status.used.startswith("native" if kind == "native" else "p"):
        found.append(f"'{status.used}' is used: {status.why}")
    names = [engine.name for engine in status.engines if engine.available]
    for kernel in status.kernels:
        if kernel.available:
            names.append(f"native:{kernel.name}")
        elif not kernel.lacks:
            found.append(kernel.reason)
    data = bytes(i % 251 for i in range(512 * SECTORS))
    for size in KEY_SIZES:
        key = bytes(range(size))
        expected = SectorCipher(key, engine="reference").encrypt(data, 2**32 - 1)
        for name in names:
            cipher = SectorCipher(key, engine=name)
            if cipher.encrypt(data, 2**32 - 1) != expected:
                found.append(f"the engine {name} encrypts wrongly with {8 * size} bits")
            if cipher.decrypt(expected, 2**32 - 1) != data:
                found.append(f"the engine {name} decrypts wrongly with {8 * size} bits")
    print(f"{Path(engines.__file__).parent}: {', '.join(names)}; used: {status.used}")
    return found


def page_problems() -> list[str]:
    """Are the files there that are no Python: those which the page of explain --html is made of."""
    try:
        page.assemble({})
    except OSError as error:
        return [f"the page of explain --html lacks a part: {error}"]
    return []


def main(kind: str) -> int:
    """Check; give the exit status."""
    if kind not in {"native", "pure"}:
        sys.exit(f"the kind is native or pure, not '{kind}'")
    found = [*problems(kind), *page_problems()]
    for problem in found:
        print(f"  {problem}")
    return bool(found)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))

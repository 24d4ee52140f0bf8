"""``python -m qcow2crypt.probe.ownwork encrypt|decrypt FILE``: what our own engine does.

The program that doctor looks at when it looks at us: the engine that QCOW2CRYPT_ENGINE names, or
the best one, on the bytes of a file, and nothing else.
"""

from __future__ import annotations

import sys
from pathlib import Path

from qcow2crypt import engines
from qcow2crypt.units import SECTOR_SIZE


def main(direction: str, path: str) -> str:
    """Encrypt or decrypt the bytes of a file; gives the name of the engine, with its kernel."""
    engine = engines.get()
    key = engine.expand_key(bytes(16))
    data = bytearray(Path(path).read_bytes())
    ivs = bytes(16 * (len(data) // SECTOR_SIZE))
    (key.cbc_encrypt if direction == "encrypt" else key.cbc_decrypt)(ivs, data, data, SECTOR_SIZE)
    kernel = getattr(engine, "kernel", "")
    return f"{engine.name}, kernel {kernel}" if kernel else engine.name


if __name__ == "__main__":
    print(main(sys.argv[1], sys.argv[2]))  # noqa: T201 - a program, and this its answer

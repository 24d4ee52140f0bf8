"""``reader.py HOW IMAGE SECRET_FILE OUT``: reads an image, and does one thing wrong."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import qcow2crypt


def read(image: str, secret_file: str) -> bytes:
    secret = Path(secret_file).read_bytes()
    with qcow2crypt.open(image, secret=secret) as disk:
        return disk.readall()


def main(how: str, image: str, secret_file: str, out: str) -> None:
    if how == "refuses":
        sys.exit("this program knows no encryption")
    if how == "crashes":
        os.kill(os.getpid(), signal.SIGSEGV)
    content = read(image, secret_file)
    if how == "shortens":
        content = content[:-512]
    Path(out).write_bytes(bytes(len(content)) if how == "forgets" else content)


if __name__ == "__main__":
    main(*sys.argv[1:])

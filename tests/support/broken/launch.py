"""``launch.py VARIANT WORDS``: the command line of qcow2crypt with one fault in its code."""

from __future__ import annotations

import sys

from support.broken.variants import VARIANTS

from qcow2crypt.cli import main

if __name__ == "__main__":
    VARIANTS[sys.argv[1]]()
    sys.exit(main(sys.argv[2:]))

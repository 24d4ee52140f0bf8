"""``python -m qcow2crypt``: the command line."""

from __future__ import annotations

import sys

from qcow2crypt.cli import main

if __name__ == "__main__":
    sys.exit(main())

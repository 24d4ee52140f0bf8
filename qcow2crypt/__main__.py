"""``python -m qcow2crypt``, and the program ``qcow2crypt``: one command line, and then the end."""

from __future__ import annotations

import gc
import sys

_MANY_OBJECTS = 50_000


def run() -> int:
    """Run the command line of this process and give the exit code.

    Modules are nearly all of what a short command makes, and they stay.  To look through them for
    garbage now and then, and once more at the end, would take a seventh of its time.
    """
    gc.set_threshold(_MANY_OBJECTS)
    from qcow2crypt.cli import main  # what it makes is not looked through, either

    try:
        return main()
    finally:
        gc.freeze()


if __name__ == "__main__":
    sys.exit(run())

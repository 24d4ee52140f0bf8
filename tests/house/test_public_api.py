"""The public names change only on purpose: they are written down in public_api.txt."""

from __future__ import annotations

from pathlib import Path

import qcow2crypt

SNAPSHOT = Path(__file__).with_name("public_api.txt")

HOW = """The public names of qcow2crypt changed.  If that is meant, say so in CHANGELOG.md and run:
  .venv/bin/python -c 'import qcow2crypt; print(*sorted(qcow2crypt.__all__), sep="\\n")' \\
      > tests/house/public_api.txt"""


def test_public_names_are_those_written_down() -> None:
    written = SNAPSHOT.read_text(encoding="utf-8").split()
    assert sorted(qcow2crypt.__all__) == written, HOW


def test_every_public_name_exists() -> None:
    missing = [name for name in qcow2crypt.__all__ if not hasattr(qcow2crypt, name)]
    assert not missing

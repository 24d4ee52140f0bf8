"""The images of the corpus that fuzzing found: kept as they are, since nothing makes them again.

What stands in a manifest beside the bytes, its name, what it is about and why QEMU may do something
else, was written by whoever added it; the rest is asked for anew each time.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from corpus_drafts import KNOWN, Draft

from qcow2crypt.testing import corpus
from qcow2crypt.testing.damage import SECRET

GROUP = "found"


def found_drafts(folder: Path, every: int = 1) -> Iterator[Draft]:
    """The images whose manifests lie in ``folder``."""
    for path in sorted(folder.glob("*.json"))[::every]:
        entry = corpus.load(path)
        yield found_draft(entry.name, entry.about, entry.data, entry.why)


def found_draft(name: str, about: str, data: bytes, why: str = "") -> Draft:
    """An input of the fuzzer as an image of the corpus, in the format that it says it is."""
    version = int.from_bytes(data[4:8], "big") if data[:4] == b"QFI\xfb" else 0
    known = "qcow" if version == 1 else "qcow2"
    return Draft(
        GROUP,
        name,
        about,
        known,
        {f"image.{known}": data},
        frozenset({"damaged", f"version-{version}"} & KNOWN),
        secrets={0: SECRET.encode()} if known == "qcow2" else {},
        why=why,
    )

"""Hold another reader of qcow2 against the corpus: libqcow, by its Python binding.

    pip install 'qcow2crypt[testing]' libqcow-python
    pytest examples/test_libqcow.py

Every sound image of the corpus without a backing file is read.  ``KNOWN`` says where libqcow
20260703 differs; a difference that is not known fails, and so does one that is gone.  To test
your own reader, write another ``read``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest

from qcow2crypt.testing import corpus
from qcow2crypt.testing.corpus import Entry, Outcome

pyqcow = pytest.importorskip("pyqcow", reason="libqcow is not tested: no libqcow-python here")

FOLDER = Path(__file__).resolve().parent.parent / "corpus"
NOT_READ = {"zstd", "subclusters", "data-file"}
PIECE = 1 << 20

KNOWN: dict[str, Callable[[Entry], bool]] = {
    "features that it refuses by their bit": lambda entry: bool(entry.features & NOT_READ),
    "a disk of 0 bytes is refused": lambda entry: entry.expected.size == 0,
    "a password that is not ASCII gives another key, and so noise": lambda entry: (
        "aes" in entry.features and not (entry.secret or b"").isascii()
    ),
    "compressed clusters of an encrypted image, which are in clear, are not read": lambda entry: (
        entry.features >= {"aes", "compressed"}
    ),
    "a disk that ends in a compressed cluster loses its last sector": lambda entry: (
        entry.name == "plain-compressed" and entry.group == "ours"
    ),
}


def read(image: Path, secret: str | None) -> Outcome:
    """The whole disk as libqcow reads it."""
    disk, content = pyqcow.file(), hashlib.sha256()
    try:
        if secret is not None:
            disk.set_password(secret)
        disk.open(str(image))
        size, done = disk.get_media_size(), 0
        while done < size:
            part = disk.read_buffer_at_offset(min(PIECE, size - done), done)
            if not part:
                break
            content.update(part)
            done += len(part)
        disk.close()
    except OSError as error:  # what the binding raises for everything
        return Outcome("refused", error=str(error))
    return Outcome("reads", size=done, sha256=content.hexdigest())


SOUND = [
    entry
    for entry in corpus.entries(FOLDER, without={"damaged", "luks"}, result="reads")
    if (entry.alone or "data-file" in entry.features) and entry.group != "random"
]


@pytest.mark.parametrize("entry", SOUND, ids=str)
def test_reads_what_qemu_reads(entry: Entry, tmp_path: Path) -> None:
    """With the 16 bytes of the passphrase that count: libqcow refuses a longer one."""
    secret = None if entry.secret is None else entry.secret[:16].decode(errors="ignore")
    found = read(entry.unpack(tmp_path), secret)
    reasons = [reason for reason, applies in KNOWN.items() if applies(entry)]
    assert (found == entry.expected) is (not reasons), (found, reasons)


def test_refuses_a_passphrase_of_17_bytes(tmp_path: Path) -> None:
    """QEMU takes it, and cuts it."""
    (entry,) = (entry for entry in SOUND if entry.name == "passphrase-17-bytes")
    assert entry.secret is not None
    found = read(entry.unpack(tmp_path), entry.secret.decode())
    assert found.result == "refused"
    assert "byte stream too small" in (found.error or "")


@pytest.mark.parametrize("entry", corpus.entries(FOLDER, group="hostile"), ids=str)
def test_survives_hostile_images(entry: Entry, tmp_path: Path) -> None:
    """Whatever it makes of them, it comes back, and with no more than the disk."""
    found = read(entry.unpack(tmp_path), None)
    assert found.result == "refused" or found.size is not None

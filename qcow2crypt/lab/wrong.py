"""Wrong: a wrong passphrase goes unnoticed, and what is written with it is lost."""

from __future__ import annotations

from pathlib import Path

import qcow2crypt
from qcow2crypt.errors import Qcow2CryptError
from qcow2crypt.lab import modes
from qcow2crypt.lab.base import QEMU, ByteMap, Claim, Command, Demonstration, Result, paragraphs
from qcow2crypt.lab.counting import changed_bits, changed_bytes, equal, sectors
from qcow2crypt.lab.desk import NO_QEMU, Desk, part, read
from qcow2crypt.lab.qemu import Qemu, io_line
from qcow2crypt.lab.sources import LUKS1, QEMU_FLAWS
from qcow2crypt.units import SECTOR_SIZE

CLUSTER_SECTORS = 128
DISK_SECTORS = 3 * CLUSTER_SECTORS
"""Clusters: one with text, one to write to, one that nobody wrote to."""
WRONG = "open-sesami"
TRIES = tuple(f"guess-{number}" for number in range(64))
WRITTEN = 200
SHOWN = 96
FRESH = 2 * CLUSTER_SECTORS + 44
TEXT = b"Nothing in the file tells whether a passphrase is right. "


def disk() -> bytes:
    """Two clusters of text, and one of zeros, which is not stored."""
    stored = 2 * CLUSTER_SECTORS * SECTOR_SIZE
    return (TEXT * stored)[:stored] + bytes(CLUSTER_SECTORS * SECTOR_SIZE)


def outcome(image: Path, passphrase: str) -> str:
    """``error``, ``right`` or ``noise``: what opening and reading with a passphrase comes to."""
    try:
        seen = read(image, 0, CLUSTER_SECTORS, passphrase)
    except Qcow2CryptError:
        return "error"
    return "right" if seen == disk()[: len(seen)] else "noise"


def run(desk: Desk) -> Result:
    """Try passphrases, then write with a wrong one."""
    image = desk.aes("wrong", disk())
    outcomes = [outcome(image, word) for word in TRIES]
    noise = read(image, 0, CLUSTER_SECTORS, WRONG)
    newline = read(image, 0, CLUSTER_SECTORS, modes.PASSPHRASE + "\n")
    right = disk()[: CLUSTER_SECTORS * SECTOR_SIZE]
    mixed = desk.copy(image, "mixed")
    with qcow2crypt.open(mixed, mode="r+", secret=WRONG) as writer:
        writer.pwrite(b"New data".ljust(SECTOR_SIZE), WRITTEN * SECTOR_SIZE)
        writer.pwrite(b"New data".ljust(SECTOR_SIZE), FRESH * SECTOR_SIZE)
    now = sectors(read(mixed, 0, DISK_SECTORS))
    kept = [one == other for one, other in zip(now, sectors(disk()), strict=True)]
    lost_old = kept[: 2 * CLUSTER_SECTORS].count(False)
    lost_fresh = kept[2 * CLUSTER_SECTORS :].count(False)
    half = 4 * len(right)
    claims = [
        Claim(
            "errors", "wrong passphrases that were refused", outcomes.count("error"), 0, len(TRIES)
        ),
        Claim(
            "noise",
            "wrong passphrases that opened the image and read noise",
            outcomes.count("noise"),
            len(TRIES),
            len(TRIES),
        ),
        Claim(
            "bits",
            f"bits that differ from the text, with '{WRONG}' in place of '{modes.PASSPHRASE}': one "
            "wrong letter is as wrong as all of them",
            changed_bits(noise, right),
            half,
            2 * half,
            tolerance=4000,
        ),
        Claim(
            "newline",
            "bits that differ with the right passphrase and a newline behind it, as editors leave "
            "one in a file",
            changed_bits(newline, right),
            half,
            2 * half,
            tolerance=4000,
        ),
        Claim(
            "lost",
            "sectors that the owner has lost after one was written with the wrong passphrase where "
            "data was",
            lost_old,
            1,
            2 * CLUSTER_SECTORS,
        ),
        Claim(
            "lost-fresh",
            "and after one was written where nothing was: the rest of the new cluster is zeros, "
            "encrypted with the wrong key too",
            lost_fresh,
            CLUSTER_SECTORS,
            CLUSTER_SECTORS,
        ),
        Claim(
            "check",
            "errors that a check of that image finds, which looks at tables",
            qcow2crypt.check(mixed).corruptions,
            0,
        ),
    ]
    pictures = (
        ByteMap(
            "Begin of the disk with the wrong passphrase",
            f"'{WRONG}' in place of '{modes.PASSPHRASE}'",
            noise[:SHOWN],
            "." * SHOWN,
            {},
        ),
        ByteMap(
            "Begin of the disk with the right one",
            "the text that the owner wrote",
            right[:SHOWN],
            "." * SHOWN,
            {},
        ),
    )
    files = [
        ("wrong.qcow2", "a disk with text, legacy AES"),
        ("mixed.qcow2", "the same, after two writes with a wrong passphrase"),
    ]
    not_run = []
    if desk.qemu is None:
        not_run.append(NO_QEMU)
    else:
        claims += _by_qemu(desk, desk.qemu, image, noise)
        files.append(("wrong-luks.qcow2", "the same disk in a LUKS image"))
    commands = (
        Command(
            io_line("read -v 0 64", image="wrong.qcow2", passphrase=WRONG), "noise, and no error"
        ),
        Command(
            io_line(f"read -v {FRESH * SECTOR_SIZE + SECTOR_SIZE} 64", image="mixed.qcow2"),
            "what were zeros beside the sector that was written with a wrong passphrase",
        ),
    )
    return Result(tuple(claims), pictures, tuple(files), commands, tuple(not_run))


def _by_qemu(desk: Desk, qemu: Qemu, image: Path, noise: bytes) -> list[Claim]:
    luks = desk.luks("wrong-luks", disk())
    tries = TRIES[:4]
    return [
        Claim(
            "qemu",
            "bytes that QEMU reads in another way than this package with the wrong passphrase: it "
            "reads the same noise, without an error",
            changed_bytes(qemu.read(image, WRONG)[: len(noise)], noise),
            0,
            len(noise),
            by=QEMU,
        ),
        Claim(
            "luks",
            "wrong passphrases that are refused by a LUKS image",
            sum(qemu.refuses(luks, word) for word in tries),
            len(tries),
            len(tries),
            side="contrast",
            by=QEMU,
        ),
        Claim(
            "luks-right",
            "sectors of that LUKS image that are read right with the right one",
            equal(sectors(part(qemu.read(luks), 0, DISK_SECTORS)), sectors(disk())),
            DISK_SECTORS,
            DISK_SECTORS,
            side="contrast",
            by=QEMU,
        ),
    ]


DEMONSTRATION = Demonstration(
    name="wrong",
    title="A wrong passphrase goes unnoticed",
    claim=(
        "Every passphrase opens every image. A wrong one reads noise, and what is written with "
        "it is lost for the owner."
    ),
    story=paragraphs(
        """
        The file holds nothing that depends on the key but data: no digest, no magic word. Any 16
        bytes are a key, and any bytes decrypt to something. Programs find out only when a file
        system cannot be mounted, if anybody looks.

        It is not only confusing. A write with the wrong passphrase goes through, and the right
        one reads noise there from then on. A write to a new cluster encrypts all of it, 64 KiB,
        with the wrong key. 'qemu-img check' looks at tables and finds no errors.

        The most common case is a newline at the end of the file that holds the passphrase: it is
        a part of the key.
        """
    ),
    answer=paragraphs(
        """
        LUKS stores a digest of the master key: a passphrase that does not lead to it is refused
        before anything is read or written. For legacy images 'qcow2crypt convert' looks at the
        start of the disk and warns if it does not look like one; that is a guess, not a proof.
        """
    ),
    sources=(QEMU_FLAWS, LUKS1),
    run=run,
)

"""Snapshot: equal ciphertext in two copies of a disk tells what was changed in between."""

from __future__ import annotations

from pathlib import Path

import qcow2crypt
from qcow2crypt.lab import modes
from qcow2crypt.lab.base import QEMU, Claim, Command, Demonstration, Pixels, Result, paragraphs
from qcow2crypt.lab.counting import changed_bytes, equal, runs, sectors
from qcow2crypt.lab.desk import NO_QEMU, Desk, ciphertext
from qcow2crypt.lab.drawing import BACKGROUND, padlock
from qcow2crypt.lab.qemu import Qemu, line
from qcow2crypt.lab.search import first_change
from qcow2crypt.lab.sources import DIESBURG, QEMU_FLAWS, QEMU_LUKS
from qcow2crypt.lab.stored import Stored
from qcow2crypt.units import BLOCK_SIZE, SECTOR_SIZE

SIDE = 32
COUNT = SIDE * SIDE
NAME = "before"
_DRAWN = padlock(SIDE, SIDE)
CHANGED = frozenset(number for number in range(COUNT) if _DRAWN[number] != BACKGROUND)
"""The sectors that the guest writes again after the snapshot: drawn in a square, a padlock."""
CLUSTER_SECTORS = 128
_CLUSTERS = {sector // CLUSTER_SECTORS for sector in CHANGED}
COPIED = {sector for sector in range(COUNT) if sector // CLUSTER_SECTORS in _CLUSTERS}
"""The sectors of clusters in which something is changed."""
UNCHANGED = COUNT - len(CHANGED)
KEPT_BLOCKS = 10
"""So many blocks at the begin of a changed sector stay as they are."""


def text(sector: int, version: int) -> bytes:
    """A sector: the first blocks tell its number, the rest the version."""
    start = f"sector {sector}: ".encode().ljust(KEPT_BLOCKS * BLOCK_SIZE, b"-")
    return (start + f"version {version}. ".encode() * SECTOR_SIZE)[:SECTOR_SIZE]


def before() -> bytes:
    """The disk when the snapshot is taken."""
    return b"".join(text(sector, 1) for sector in range(COUNT))


def after() -> bytes:
    """The disk afterwards."""
    return b"".join(text(sector, 2 if sector in CHANGED else 1) for sector in range(COUNT))


def run(desk: Desk) -> Result:
    """Write, take a snapshot, change some sectors, compare what is in the file."""
    image = desk.aes("snapshot", before())
    _rewrite(image)
    old, new, host = _both(image)
    copied = [number for number in range(COUNT) if host[0][number] != host[1][number]]
    seen = [number for number in range(COUNT) if old[number] != new[number]]
    begins = [first_change(old[number], new[number]) for number in CHANGED]
    essiv = [sectors(modes.essiv(disk, 0)) for disk in (before(), after())]
    by_host = [
        modes.by_host(sectors(disk), places)
        for disk, places in zip((before(), after()), host, strict=True)
    ]
    claims = [
        Claim(
            "copied",
            "sectors that lie at two places of the file, one for the snapshot and one for now: a "
            "write of one sector copies its whole cluster",
            len(copied),
            len(COPIED),
            COUNT,
        ),
        Claim(
            "equal",
            "of these, so many have equal ciphertext at both places: all that were not changed",
            sum(old[number] == new[number] for number in copied),
            len(COPIED) - len(CHANGED),
            len(COPIED),
            chance="0",
        ),
        Claim(
            "seen",
            "changed sectors that are told from the file alone",
            len(CHANGED.intersection(seen)),
            len(CHANGED),
            len(CHANGED),
        ),
        Claim("false", "other sectors that are told", len(set(seen) - CHANGED), 0),
        Claim(
            "begin",
            f"of these, so many tell where in them the change begins: at block {KEPT_BLOCKS} of 32",
            begins.count(KEPT_BLOCKS),
            len(CHANGED),
            len(CHANGED),
        ),
        Claim(
            "essiv",
            "the same history under essiv:sha256 by guest sectors, equal sectors: IVs that nobody "
            "foresees do not help, since they come again",
            equal(*essiv),
            UNCHANGED,
            COUNT,
            side="contrast",
        ),
        Claim(
            "host",
            "the same history with IVs from the place in the file, as LUKS in qcow2 counts: equal "
            "sectors",
            sum(by_host[0][number] == by_host[1][number] for number in copied),
            0,
            len(COPIED),
            side="contrast",
        ),
    ]
    pictures = [
        _picture("Legacy AES", seen, "dark: the ciphertext differs between snapshot and now"),
        _picture(
            "The same, counted by host sectors",
            [number for number in range(COUNT) if by_host[0][number] != by_host[1][number]],
            "all differ that were copied, so only the clusters are told",
        ),
    ]
    files = [("snapshot.qcow2", "a disk with the snapshot 'before', legacy AES")]
    not_run = []
    if desk.qemu is None:
        not_run.append(NO_QEMU)
    else:
        claims += _by_qemu(desk, desk.qemu, image)
        files += [
            ("snapshot-luks.qcow2", "the same history in a LUKS image"),
            ("in-place-luks.qcow2", "the same writes in a LUKS image without a snapshot"),
        ]
    commands = (
        Command("qcow2crypt lab snapshot --image snapshot.qcow2", "what changed, without a key"),
        Command(line("qemu-img", "snapshot", "-l", image="snapshot.qcow2"), "the snapshot"),
    )
    return Result(tuple(claims), tuple(pictures), tuple(files), commands, tuple(not_run))


def _rewrite(image: Path) -> None:
    """Take a snapshot, then write the changed sectors."""
    disk_now = after()
    with qcow2crypt.open(image, mode="r+", secret=modes.PASSPHRASE) as disk:
        disk.create_snapshot(NAME)
        for first, last in runs(sorted(CHANGED)):
            start = first * SECTOR_SIZE
            disk.pwrite(disk_now[start : (last + 1) * SECTOR_SIZE], start)


def _both(image: Path) -> tuple[list[bytes], list[bytes], list[list[int]]]:
    """Ciphertext of all sectors in the snapshot and now, and where each lies."""
    with Stored(image) as stored:
        (snapshot,) = stored.snapshots()
        found = [list(stored.sectors(one)) for one in (snapshot, None)]
    old, new = ([data for _, _, data in one] for one in found)
    return old, new, [[host for _, host, _ in one] for one in found]


def _by_qemu(desk: Desk, qemu: Qemu, image: Path) -> list[Claim]:
    differing = changed_bytes(qemu.read(image, snapshot=NAME), before())
    differing += changed_bytes(qemu.read(image), after())
    luks = desk.luks("snapshot-luks", before())
    qemu.snapshot(luks, NAME)
    desk.write(luks, after())
    old, new, _ = _both(luks)
    in_place = desk.luks("in-place-luks", before())
    earlier = sectors(ciphertext(in_place, 0, COUNT))
    desk.write(in_place, after())
    later = sectors(ciphertext(in_place, 0, COUNT))
    return [
        Claim(
            "qemu",
            "bytes that QEMU reads in another way, from the snapshot and from the disk as it is",
            differing,
            0,
            2 * len(before()),
            by=QEMU,
        ),
        Claim(
            "luks",
            "the same history in a LUKS image: sectors with equal ciphertext",
            equal(old, new),
            0,
            COUNT,
            side="contrast",
            by=QEMU,
        ),
        Claim(
            "luks-in-place",
            "the same writes in place, in a LUKS image of which somebody has an older copy: "
            "sectors with equal ciphertext. Against this no IV helps that counts places",
            equal(earlier, later),
            UNCHANGED,
            COUNT,
            side="contrast",
            by=QEMU,
        ),
    ]


def _picture(title: str, differing: list[int], about: str) -> Pixels:
    cells = bytes(number in differing for number in range(COUNT))
    return Pixels(
        title, f"a cell for each sector; {about}", SIDE, cells, ((222, 226, 233), (178, 58, 30))
    )


DEMONSTRATION = Demonstration(
    name="snapshot",
    title="Snapshots: equal ciphertext tells what was changed",
    claim=(
        "Whoever sees two states of an image, in snapshots, backups or copies, sees which "
        "sectors were changed between them, and where in each the change begins."
    ),
    story=paragraphs(
        """
        Key, sector number and data make the ciphertext, and nothing else does. The same data at
        the same place of the disk is therefore the same ciphertext, today and in a year, in the
        snapshot, in an overlay and in the backup.

        When a guest writes one sector after a snapshot, qcow2 copies the cluster around it, here
        64 KiB. All of it is encrypted again with the same IVs, so that what was not changed can
        be told from what was. In a changed sector the first blocks are equal up to the first
        change, since CBC goes from the left to the right.

        What was changed says much: which files, how often, at which time, or whether a sector was
        set back to what it held before.
        """
    ),
    answer=paragraphs(
        """
        In LUKS inside qcow2 the IV is the number of the sector in the file. A snapshot keeps the
        old cluster where it is, and the new one lies elsewhere, so the same data has another
        ciphertext; this was the reason to count there. It does not help where a sector is
        rewritten in place and somebody has the file from before: two copies of a LUKS file tell
        as much.
        """
    ),
    sources=(QEMU_LUKS, DIESBURG, QEMU_FLAWS),
    run=run,
)

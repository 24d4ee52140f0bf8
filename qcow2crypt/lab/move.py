"""Move: one sector's ciphertext copied over another, or put back from an older copy."""

from __future__ import annotations

from qcow2crypt.lab import modes
from qcow2crypt.lab.base import QEMU, ByteMap, Claim, Command, Demonstration, Result, paragraphs
from qcow2crypt.lab.counting import blocks, changed_bytes, equal, marks
from qcow2crypt.lab.desk import NO_QEMU, Desk, ciphertext, overwrite, part, read
from qcow2crypt.lab.qemu import Qemu, io_line
from qcow2crypt.lab.sources import BROZ, PTACEK, SP800_38A
from qcow2crypt.units import BLOCK_SIZE, SECTOR_SIZE

SOURCE, TARGET = 5, 9
"""The sector that is copied, and the one that it is copied over."""
DISK_SECTORS = 128
PER_SECTOR = SECTOR_SIZE // BLOCK_SIZE
SIGNS = SOURCE ^ TARGET


def text(sector: int) -> bytes:
    """What a sector holds: an order to a bank."""
    whom = "Eve" if sector == SOURCE else "Bob"
    line = f"From order {sector}: pay {sector}000 to {whom}. ".encode()
    return (line * SECTOR_SIZE)[:SECTOR_SIZE]


TARGET_NOW = b"This order was cancelled.".ljust(SECTOR_SIZE)
"""What the owner writes over the order, before somebody puts the old one back."""


def disk(target: bytes | None = None) -> bytes:
    """A disk of orders; ``target`` stands in the target's place if it is given."""
    whole = [text(sector) for sector in range(DISK_SECTORS)]
    if target is not None:
        whole[TARGET] = target
    return b"".join(whole)


def run(desk: Desk) -> Result:
    """Write the orders, copy, read; then the same with an older copy of one sector."""
    image = desk.aes("orders", disk())
    moved = desk.copy(image, "moved")
    secret = ciphertext(image, SOURCE, 1)
    overwrite(moved, TARGET, secret)
    seen = read(moved, TARGET, 1)
    essiv = modes.essiv_decrypted(modes.essiv(text(SOURCE), SOURCE), TARGET)
    claims = [
        Claim(
            "bytes",
            f"bytes of sector {TARGET} that differ from the text of sector {SOURCE}, which was "
            "copied over it",
            changed_bytes(seen, text(SOURCE)),
            1,
            SECTOR_SIZE,
            chance="about 510",
        ),
        Claim(
            "xor",
            f"that byte, XOR what it was: {SOURCE} XOR {TARGET}, the two sector numbers",
            f"{seen[0] ^ text(SOURCE)[0]:#04x}",
            f"{SIGNS:#04x}",
            chance="any of 256",
        ),
        Claim("begin", "the text begins with; it was F", chr(seen[0]), chr(ord("F") ^ SIGNS)),
        Claim(
            "essiv",
            "the same copy under essiv:sha256: blocks that are as the text that was copied. The "
            "first one is noise, the other 31 have arrived",
            equal(blocks(essiv), blocks(text(SOURCE))),
            PER_SECTOR - 1,
            PER_SECTOR,
            side="contrast",
        ),
        *_replayed(desk),
    ]
    seen_marks = "".join("!" if mark == "x" else mark for mark in marks(seen, text(SOURCE)))
    pictures = (
        ByteMap(
            f"Sector {TARGET} after the copy",
            f"what is read now, beside the text of sector {SOURCE}",
            seen,
            seen_marks,
            {"!": "the byte that is another one"},
        ),
    )
    files = [
        ("orders.qcow2", "as it was"),
        ("moved.qcow2", f"the ciphertext of sector {SOURCE} over sector {TARGET}"),
        ("replayed.qcow2", f"sector {TARGET} put back from orders.qcow2, after it was rewritten"),
    ]
    not_run = []
    if desk.qemu is None:
        not_run.append(NO_QEMU)
    else:
        claims += _by_qemu(desk, desk.qemu, seen)
        files += [
            ("moved-luks.qcow2", "the same copy in a LUKS image"),
            ("replayed-luks.qcow2", "the old sector put back in a LUKS image"),
        ]
    place = TARGET * SECTOR_SIZE
    commands = (
        Command(io_line(f"read -v {place} 64", image="orders.qcow2"), "order 9"),
        Command(
            io_line(f"read -v {place} 64", image="moved.qcow2"),
            "order 5 in its place, and only its first letter is another one",
        ),
    )
    return Result(tuple(claims), pictures, tuple(files), commands, tuple(not_run))


def _replayed(desk: Desk) -> list[Claim]:
    """Put back the older ciphertext of a sector that was rewritten."""
    image = desk.aes("replayed", disk(TARGET_NOW))
    overwrite(image, TARGET, ciphertext(desk.folder / "orders.qcow2", TARGET, 1))
    return [
        Claim(
            "replayed",
            f"bytes of sector {TARGET} that differ from its old text, once it was rewritten and "
            "then its old ciphertext was put back",
            changed_bytes(read(image, TARGET, 1), text(TARGET)),
            0,
            SECTOR_SIZE,
            chance="about 510",
        ),
    ]


def _by_qemu(desk: Desk, qemu: Qemu, seen: bytes) -> list[Claim]:
    by_qemu = part(qemu.read(desk.folder / "moved.qcow2"), TARGET, 1)
    luks = desk.luks("moved-luks", disk())
    old = ciphertext(luks, TARGET, 1)
    replayed = desk.copy(luks, "replayed-luks")
    desk.write(replayed, disk(TARGET_NOW))
    overwrite(replayed, TARGET, old)
    back = part(qemu.read(replayed), TARGET, 1)
    overwrite(luks, TARGET, ciphertext(luks, SOURCE, 1))
    by_luks = part(qemu.read(luks), TARGET, 1)
    return [
        Claim(
            "qemu",
            "blocks of that sector that QEMU reads as told here, without an error",
            equal(blocks(by_qemu), blocks(seen)),
            PER_SECTOR,
            PER_SECTOR,
            by=QEMU,
        ),
        Claim(
            "luks",
            "the same copy in a LUKS image (XTS): blocks that are as the text that was copied",
            equal(blocks(by_luks), blocks(text(SOURCE))),
            0,
            PER_SECTOR,
            side="contrast",
            by=QEMU,
        ),
        Claim(
            "luks-replayed",
            "an older ciphertext put back at its own place, in LUKS: bytes that differ from the "
            "old text. XTS does not help against this",
            changed_bytes(back, text(TARGET)),
            0,
            SECTOR_SIZE,
            side="contrast",
            by=QEMU,
        ),
    ]


DEMONSTRATION = Demonstration(
    name="move",
    title="A move: one sector copied over another, and an old one put back",
    claim=(
        "Whoever can write to the file can copy any sector over any other: all of it but 16 "
        "bytes is read as it was, and how those 16 change can be foretold."
    ),
    story=paragraphs(
        """
        Each sector is a message of its own, and in CBC the IV has a part in its first block only.
        Copied to another place, a sector is decrypted with the IV of that place. Its first block
        comes out XOR both IVs, which are sector numbers: from 5 to 9 that is 5 XOR 9 = 12, in the
        first byte. 'F' becomes 'J'. The other 511 bytes are as they were.

        It is the one place where the IV can be seen with the bare eye, and it shows which number
        it is: the sector of the guest's disk, from the least significant byte on.

        An older ciphertext of a sector, put back at its own place, is read without any change: a
        cancelled order is there again.
        """
    ),
    answer=paragraphs(
        """
        ESSIV garbles the first block and lets the other 31 through. Under XTS every block is
        encrypted with its place, so what was copied elsewhere is noise, all of it; but noise is
        read without an error, and an older copy at its own place is read as it was. Against that
        helps only authentication that knows what is new: XTS and LUKS do not have it.
        """
    ),
    sources=(SP800_38A, BROZ, PTACEK),
    run=run,
)

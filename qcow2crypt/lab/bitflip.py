"""Bit flip: a chosen bit of the plaintext changed through the ciphertext."""

from __future__ import annotations

from qcow2crypt.lab import modes
from qcow2crypt.lab.base import QEMU, ByteMap, Claim, Command, Demonstration, Result, paragraphs
from qcow2crypt.lab.counting import blocks, changed_bits, equal, marks
from qcow2crypt.lab.desk import NO_QEMU, Desk, ciphertext, overwrite, part, read
from qcow2crypt.lab.qemu import Qemu, io_line, line
from qcow2crypt.lab.sources import BROZ, PTACEK, SP800_38A
from qcow2crypt.units import BLOCK_SIZE, SECTOR_SIZE

SECTOR = 40
DISK_SECTORS = 128
LINES = (
    "student: 4711", "name: Mallory", "course: crypto", "term: winter", "tries: 2", "",
    "remarks: none", "grade: C",
)  # fmt: skip
CHOSEN = LINES.index("grade: C")
"""The block with the byte to change; the one before it is the price."""
BYTE = CHOSEN * BLOCK_SIZE + len("grade: ")
BIT = ord("C") ^ ord("A")
PER_SECTOR = SECTOR_SIZE // BLOCK_SIZE


def record() -> bytes:
    """The sector with the record: a line in each block, the rest is filled with other records."""
    lines = [*LINES, *(f"(record {number})" for number in range(len(LINES), PER_SECTOR))]
    return b"".join(line.ljust(BLOCK_SIZE - 1).encode() + b"\n" for line in lines)


def disk() -> bytes:
    """A disk whose sector 40 holds the record."""
    whole = bytearray(DISK_SECTORS * SECTOR_SIZE)
    whole[SECTOR * SECTOR_SIZE : (SECTOR + 1) * SECTOR_SIZE] = record()
    return bytes(whole)


def flipped(data: bytes) -> bytes:
    """Ciphertext of the sector with one bit changed, in the block before the chosen one."""
    changed = bytearray(data)
    changed[BYTE - BLOCK_SIZE] ^= BIT
    return bytes(changed)


def run(desk: Desk) -> Result:
    """Write the record, flip, read."""
    content = disk()
    before = desk.aes("record", content)
    after = desk.copy(before, "flipped")
    overwrite(after, SECTOR, flipped(ciphertext(before, SECTOR, 1)))
    seen = read(after, SECTOR, 1)
    essiv = modes.essiv_decrypted(flipped(modes.essiv(record(), SECTOR)), SECTOR)
    claims = [
        Claim(
            "file",
            "bits changed in the image file",
            changed_bits(before.read_bytes(), after.read_bytes()),
            1,
            8 * before.stat().st_size,
        ),
        Claim("grade", "the grade that is read now; it was C", chr(seen[BYTE]), "A"),
        Claim(
            "chosen",
            "bits changed in the block that was aimed at",
            _bits(seen, CHOSEN),
            1,
            128,
            chance="about 64",
        ),
        Claim(
            "price",
            "bits changed in the block before it: this one is garbled",
            _bits(seen, CHOSEN - 1),
            64,
            128,
            tolerance=40,
        ),
        Claim(
            "rest",
            "blocks of the sector that are as they were: all others",
            equal(blocks(seen), blocks(record())),
            PER_SECTOR - 2,
            PER_SECTOR,
            chance="0",
        ),
        Claim(
            "any",
            "single bits of the ciphertext, each flipped alone, that change the same bit of the "
            "next block and no other of it",
            every_bit(ciphertext(before, SECTOR, 1)),
            8 * (SECTOR_SIZE - BLOCK_SIZE),
            8 * (SECTOR_SIZE - BLOCK_SIZE),
            chance="0",
        ),
        Claim(
            "essiv",
            "the same flip under essiv:sha256, bits changed in the block that was aimed at: other "
            "IVs do not help",
            _bits(essiv, CHOSEN),
            1,
            128,
            side="contrast",
        ),
    ]
    pictures = [
        ByteMap(
            f"Sector {SECTOR} after the flip",
            "what is read now, a block of 16 bytes in each row",
            seen,
            _marks(seen),
        )
    ]
    files = [("record.qcow2", "as it was"), ("flipped.qcow2", "one bit changed")]
    not_run = []
    if desk.qemu is None:
        not_run.append(NO_QEMU)
    else:
        files += [("flipped-luks.qcow2", "one bit changed in a LUKS image")]
        claims += _by_qemu(desk, desk.qemu, content, seen)
    commands = (
        Command(
            io_line(f"read -v {SECTOR * SECTOR_SIZE + 96} 32", image="record.qcow2"),
            "the remarks, and grade: C",
        ),
        Command(
            io_line(f"read -v {SECTOR * SECTOR_SIZE + 96} 32", image="flipped.qcow2"),
            "noise in place of the remarks, grade: A, and no error",
        ),
        Command("cmp -l record.qcow2 flipped.qcow2", "the one byte of the file that differs"),
        Command(
            line("qemu-img", "check", image="flipped.qcow2"), "No errors were found on the image."
        ),
    )
    return Result(tuple(claims), tuple(pictures), tuple(files), commands, tuple(not_run))


def _by_qemu(desk: Desk, qemu: Qemu, content: bytes, seen: bytes) -> list[Claim]:
    image = desk.folder / "flipped.qcow2"
    by_qemu = part(qemu.read(image), SECTOR, 1)
    luks = desk.luks("flipped-luks", content)
    overwrite(luks, SECTOR, flipped(ciphertext(luks, SECTOR, 1)))
    by_luks = part(qemu.read(luks), SECTOR, 1)
    return [
        Claim(
            "qemu",
            "blocks of the changed sector that QEMU reads as told here, without an error",
            equal(blocks(by_qemu), blocks(seen)),
            PER_SECTOR,
            PER_SECTOR,
            by=QEMU,
        ),
        Claim(
            "check",
            "qemu-img check finds errors",
            "no" if qemu.sound(image) else "yes",
            "no",
            by=QEMU,
        ),
        Claim(
            "luks-chosen",
            "the same flip in a LUKS image (XTS), bits changed in the block that was aimed at",
            _bits(by_luks, CHOSEN),
            0,
            128,
            side="contrast",
            by=QEMU,
        ),
        Claim(
            "luks-garbled",
            "blocks of that LUKS sector that are garbled: the one with the flipped bit. QEMU "
            "reads it without an error, too",
            PER_SECTOR - equal(blocks(by_luks), blocks(record())),
            1,
            PER_SECTOR,
            side="contrast",
            by=QEMU,
        ),
    ]


def every_bit(secret: bytes) -> int:
    """How many bits of the sector, each flipped alone, change their twin in the next block only."""
    variants = []
    for bit in range(8 * (SECTOR_SIZE - BLOCK_SIZE)):
        changed = bytearray(secret)
        changed[bit // 8] ^= 1 << bit % 8
        variants.append(bytes(changed))
    right = record()
    hits = 0
    for bit, seen in enumerate(modes.decrypted_each(variants, SECTOR)):
        wanted = bytearray(right)
        wanted[bit // 8 + BLOCK_SIZE] ^= 1 << bit % 8
        own = bit // 8 // BLOCK_SIZE * BLOCK_SIZE
        same_outside = seen[:own] == right[:own]
        hits += same_outside and seen[own + BLOCK_SIZE :] == wanted[own + BLOCK_SIZE :]
    return hits


def _bits(seen: bytes, block: int) -> int:
    place = slice(block * BLOCK_SIZE, (block + 1) * BLOCK_SIZE)
    return changed_bits(seen[place], record()[place])


def _marks(seen: bytes) -> str:
    found = list(marks(seen, record()))
    found[BYTE] = "!"
    return "".join(found)


DEMONSTRATION = Demonstration(
    name="bitflip",
    title="A bit flip: data changed by somebody who cannot read it",
    claim=(
        "Whoever can write to the file can flip any bit of the plaintext behind the first block "
        "of a sector, at the price of the block before it."
    ),
    story=paragraphs(
        """
        To decrypt a block, CBC puts it through AES and XORs the result with the ciphertext block
        before it. A bit flipped in that one flips the same bit of the plaintext. The block in
        which it was flipped goes through AES itself, and comes out as noise.

        Who knows what stands there can make of it what he likes: a C becomes an A, a jump becomes
        no jump, a user becomes root. Only the first block of a sector is out of reach, since its
        IV does not stand in the file.

        Nothing in the image could tell: there is no checksum of the data, and each sector is a
        message of its own.
        """
    ),
    answer=paragraphs(
        """
        ESSIV changes nothing here: the flaw is that of CBC. Under XTS a flipped bit garbles its
        own block of 16 bytes and no other, so a chosen change is not possible; but noise is read
        without an error, as before. Only authentication tells: a tag for each sector, as
        dm-integrity with dm-crypt stores it, or a file system that authenticates what it
        encrypts. LUKS in qcow2 has none.
        """
    ),
    sources=(SP800_38A, BROZ, PTACEK),
    run=run,
)

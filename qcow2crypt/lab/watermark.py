"""Watermark: data that is recognised without the key, because its maker foresaw the IVs."""

from __future__ import annotations

from qcow2crypt.lab import modes
from qcow2crypt.lab.base import QEMU, Claim, Command, Demonstration, Pixels, Result, paragraphs
from qcow2crypt.lab.counting import changed_bytes, first_blocks, most_common, sectors, xor
from qcow2crypt.lab.desk import NO_QEMU, Desk, ciphertext, part
from qcow2crypt.lab.qemu import io_line
from qcow2crypt.lab.search import marked_sectors
from qcow2crypt.lab.sources import FRUHWIRTH, QEMU_FLAWS, SAARINEN
from qcow2crypt.units import BLOCK_SIZE, SECTOR_SIZE

MARK = b"planted by Eve: "
TEXT = b"A page of a book that anybody may have on the disk. "
COUNT = 128
DISK_SECTORS = 4096
ORDINARY, PLANTED = 512, 2432
"""The sectors where the two files begin; for the planted one a multiple of 64 KiB."""
PIECE = 8
PIECES = tuple(1024 + 8 * (37 * number % 128) for number in range(COUNT // PIECE))
"""Where the pieces of a scattered file lie: 4 KiB each, as file systems give them out."""


def sector(number: int) -> bytes:
    """One sector of the planted file, ``number`` counting from its begin.

    Its first block is the mark XOR that number.  CBC XORs the block with the IV, the number of the
    sector on the disk.  Where the file begins at a multiple of its size, the number on the
    disk is (begin XOR number): the two cancel out, wherever the file begins.
    """
    filler = (TEXT * SECTOR_SIZE)[: SECTOR_SIZE - BLOCK_SIZE]
    return xor(MARK, number.to_bytes(BLOCK_SIZE, "little")) + filler


def planted() -> bytes:
    """The file that Eve sends."""
    return b"".join(map(sector, range(COUNT)))


def scattered() -> bytes:
    """The same for a file that will lie in pieces: the number starts anew in each."""
    return b"".join(sector(number % PIECE) for number in range(COUNT))


def ordinary() -> bytes:
    """A file whose sectors are all the same, which is the best that can happen without a mark."""
    return sector(0) * COUNT


def disk() -> bytes:
    """The victim's disk: an ordinary file, the planted one, and the scattered one in its pieces."""
    whole = bytearray(DISK_SECTORS * SECTOR_SIZE)
    files = [(ORDINARY, ordinary()), (PLANTED, planted())]
    pieces = scattered()
    size = PIECE * SECTOR_SIZE
    files += [(at, pieces[n * size : (n + 1) * size]) for n, at in enumerate(PIECES)]
    for first, data in files:
        whole[first * SECTOR_SIZE : first * SECTOR_SIZE + len(data)] = data
    return bytes(whole)


def run(desk: Desk) -> Result:
    """Plant, encrypt, find."""
    content = disk()
    image = desk.aes("watermark", content)
    secret = ciphertext(image, PLANTED, COUNT)
    found = marked_sectors(image)
    wanted = {*range(PLANTED, PLANTED + COUNT)}
    wanted |= {at + n for at in PIECES for n in range(PIECE)}
    essiv = modes.essiv(planted(), PLANTED)
    by_piece = [ciphertext(image, at, PIECE) for at in PIECES]
    claims = [
        Claim(
            "planted",
            "sectors of the planted file begin with one and the same ciphertext block",
            most_common(first_blocks(secret)),
            COUNT,
            COUNT,
            chance="1",
        ),
        Claim(
            "distinct",
            "different ciphertext sectors in that file: the text behind the mark is the same too, "
            "so all of them are equal",
            len(set(sectors(secret))),
            1,
            COUNT,
            chance=str(COUNT),
        ),
        Claim(
            "scattered",
            "sectors of the scattered file begin as the other sectors of their piece of 4 KiB: Eve "
            "need not know where a file system puts them",
            sum(most_common(first_blocks(one)) for one in by_piece),
            COUNT,
            COUNT,
            chance=str(len(PIECES)),
        ),
        Claim(
            "found",
            "planted sectors found by a search of the whole image, which has no key and does not "
            "know the mark",
            len(wanted & found),
            2 * COUNT,
            2 * COUNT,
            chance="0",
        ),
        Claim("false", "other sectors found by that search", len(found - wanted), 0),
        Claim(
            "ordinary",
            "sectors of the ordinary file begin alike at most, though all are equal before: an IV "
            "does this much",
            most_common(first_blocks(ciphertext(image, ORDINARY, COUNT))),
            1,
            COUNT,
        ),
        Claim(
            "essiv",
            "the planted file under essiv:sha256, whose IVs cannot be foreseen: sectors that begin "
            "alike at most",
            most_common(first_blocks(essiv)),
            1,
            COUNT,
            side="contrast",
        ),
    ]
    pictures = [
        _picture("Legacy AES: the planted file", secret, "one colour: all sectors begin alike"),
        _picture("The same file under ESSIV", essiv, "every sector begins in another way"),
    ]
    files = [("watermark.qcow2", "the victim's disk, legacy AES")]
    not_run = []
    if desk.qemu is None:
        not_run.append(NO_QEMU)
    else:
        seen = part(desk.qemu.read(image), PLANTED, COUNT)
        claims.append(
            Claim(
                "qemu",
                "bytes of the planted file that QEMU reads from this image in another way",
                changed_bytes(seen, planted()),
                0,
                len(seen),
                by=QEMU,
            )
        )
        luks = ciphertext(desk.luks("watermark-luks", content), PLANTED, COUNT)
        claims.append(
            Claim(
                "luks",
                "the same disk in a LUKS image (AES-256, XTS): sectors that begin alike at most",
                most_common(first_blocks(luks)),
                1,
                COUNT,
                side="contrast",
                by=QEMU,
            )
        )
        files.append(("watermark-luks.qcow2", "the same disk, LUKS"))
        pictures.append(_picture("LUKS", luks, "the same disk, made by qemu-img"))
    commands = (
        Command(
            io_line(f"read -v {PLANTED * SECTOR_SIZE} 1k", image="watermark.qcow2"),
            "what the victim reads: the second sector begins with another byte than the first",
        ),
        Command(
            "qcow2crypt lab watermark --image watermark.qcow2",
            "the search without a key; it takes any image",
        ),
    )
    return Result(tuple(claims), tuple(pictures), tuple(files), commands, tuple(not_run))


def _picture(title: str, data: bytes, about: str) -> Pixels:
    """A cell for each sector: a colour for first blocks that occur more than once, else grey."""
    from qcow2crypt.lab.shading import shaded

    cells, palette = shaded(first_blocks(data))
    return Pixels(title, f"a cell for each of {COUNT} sectors; {about}", 16, cells, palette)


DEMONSTRATION = Demonstration(
    name="watermark",
    title="A watermark: data that is recognised without the key",
    claim=(
        "Whoever can bring a file onto the disk can tell later, from the image alone, that it is "
        "there."
    ),
    story=paragraphs(
        """
        The IV of a sector is its number, which everybody knows. CBC XORs it with the first block
        before it encrypts. So Eve makes a file in which the first block of every sector is a mark
        XOR the number that the sector will have. The XOR of CBC undoes hers: under any key, AES
        gets the mark each time, and gives the same ciphertext block each time.

        Eve need not know where the file will lie. If it begins at a multiple of its own size, the
        number of each sector is (number of the first) XOR (place in the file), and the first part
        is the same in all of them. File systems give out 4 KiB at multiples of 4 KiB, so pieces
        of 8 sectors work in every partition that begins at such a multiple, as today's do.

        The mark says that the file is there, and can say which one: in how many sectors, in what
        order. It can be a mail, a picture on a web page, a page in a browser's cache.
        """
    ),
    answer=paragraphs(
        """
        The IV must not be foreseeable. ESSIV encrypts the sector number under a hash of the key
        before it is used; XTS, which LUKS uses, encrypts it under a second key. Both are measured
        above on the same data.
        """
    ),
    sources=(SAARINEN, FRUHWIRTH, QEMU_FLAWS),
    run=run,
)

"""Picture: what shows through where IVs are constant, or where there are none."""

from __future__ import annotations

import struct
from collections import Counter

from qcow2crypt.lab import modes
from qcow2crypt.lab.base import QEMU, Claim, Command, Demonstration, Pixels, Result, paragraphs
from qcow2crypt.lab.counting import blocks, changed_bytes
from qcow2crypt.lab.desk import NO_QEMU, Desk, ciphertext, part
from qcow2crypt.lab.drawing import COLOURS, padlock
from qcow2crypt.lab.qemu import Qemu, line
from qcow2crypt.lab.shading import shaded
from qcow2crypt.lab.sources import FRUHWIRTH, QEMU_FLAWS, SP800_38A
from qcow2crypt.units import BLOCK_SIZE, SECTOR_SIZE

WIDTH = HEIGHT = 96
COUNT = WIDTH * HEIGHT
SECTORS = COUNT * BLOCK_SIZE // SECTOR_SIZE
COLOUR_COUNT = len(COLOURS)


def content() -> bytes:
    """The picture as data: four 32-bit numbers a pixel (red, green, blue, alpha), from 0 to 1.

    So a pixel is 16 bytes, which is one block of AES.  Graphics cards know such pictures as
    R32G32B32A32_FLOAT.
    """
    pixels = [struct.pack("<4f", *(part / 255 for part in colour), 1.0) for colour in COLOURS]
    return b"".join(pixels[number] for number in padlock(WIDTH, HEIGHT))


def run(desk: Desk) -> Result:
    """Write the picture, and look at its ciphertext under five modes."""
    data = content()
    image = desk.aes("picture", data)
    secret = ciphertext(image, 0, SECTORS)
    ecb, constant = modes.ecb(data), modes.constant_iv(data)
    essiv = modes.essiv(data, 0)
    claims = [
        Claim(
            "plain",
            "different blocks in the picture itself: one for each colour",
            _distinct(data),
            COLOUR_COUNT,
            COUNT,
        ),
        Claim(
            "ecb",
            "different ciphertext blocks without any IV (ECB): one for each colour, so the "
            "picture is all there",
            _distinct(ecb),
            COLOUR_COUNT,
            COUNT,
            chance=f"{COUNT:,}",
        ),
        Claim(
            "constant",
            "pixels whose ciphertext block occurs again elsewhere, under CBC with one and the "
            "same IV for all sectors: all that begin a sector like others do",
            _repeated(blocks(constant)),
            repeated_by_rule(data),
            COUNT,
            chance="0",
        ),
        Claim(
            "aes",
            "different ciphertext blocks under legacy AES, whose IVs are sector numbers: nothing "
            "shows in one copy of a picture",
            _distinct(secret),
            COUNT,
            COUNT,
            chance=f"{COUNT:,}",
            side="contrast",
        ),
        Claim(
            "essiv",
            "different ciphertext blocks under essiv:sha256",
            _distinct(essiv),
            COUNT,
            COUNT,
            side="contrast",
        ),
    ]
    pictures = [
        Pixels(
            "The picture",
            "guest data: a cell for each block of 16 bytes",
            WIDTH,
            padlock(WIDTH, HEIGHT),
            COLOURS,
        ),
        _picture("No IV: ECB", ecb, "each colour is another one, and the picture is there"),
        _picture(
            "One IV for all: CBC", constant, "sectors that begin alike stay alike until they differ"
        ),
        _picture("Legacy AES: the sector number", secret, "noise"),
    ]
    files = [("picture.qcow2", "the picture, legacy AES")]
    not_run = []
    if desk.qemu is None:
        not_run.append(NO_QEMU)
    else:
        more, shown = _by_qemu(desk, desk.qemu, data)
        claims += more
        pictures += shown
        files += [
            ("picture-ecb.qcow2", "the picture in a LUKS image with cipher-mode=ecb"),
            ("picture-luks.qcow2", "the picture in a usual LUKS image"),
        ]
    commands = (
        Command(
            line("qemu-img", "convert", "-O", "raw", image="picture.qcow2") + " picture.raw",
            "the picture: 96 x 96 pixels of four 32-bit floats",
        ),
        Command(
            "qemu-img create --object secret,id=s0,data=open-sesame -f qcow2 -o "
            "encrypt.format=luks,encrypt.key-secret=s0,encrypt.cipher-mode=ecb mine.qcow2 1M",
            "QEMU makes such an image without a warning",
        ),
    )
    return Result(tuple(claims), tuple(pictures), tuple(files), commands, tuple(not_run))


def _by_qemu(desk: Desk, qemu: Qemu, data: bytes) -> tuple[list[Claim], list[Pixels]]:
    image = desk.luks("picture-ecb", data, mode="ecb")
    ecb = ciphertext(image, 0, SECTORS)
    xts = ciphertext(desk.luks("picture-luks", data), 0, SECTORS)
    seen = part(qemu.read(image), 0, SECTORS)
    claims = [
        Claim(
            "luks-ecb",
            "different ciphertext blocks in a LUKS image that qemu-img made with cipher-mode=ecb",
            _distinct(ecb),
            COLOUR_COUNT,
            COUNT,
            chance=f"{COUNT:,}",
            by=QEMU,
        ),
        Claim(
            "qemu",
            "bytes of the picture that QEMU reads from that image in another way: it is a real one",
            changed_bytes(seen, data),
            0,
            len(data),
            by=QEMU,
        ),
        Claim(
            "luks",
            "different ciphertext blocks in a usual LUKS image (XTS)",
            _distinct(xts),
            COUNT,
            COUNT,
            side="contrast",
            by=QEMU,
        ),
    ]
    pictures = [
        _picture("LUKS with cipher-mode=ecb", ecb, "the file that qemu-img made"),
        _picture("LUKS as usual: XTS", xts, "the file that qemu-img made"),
    ]
    return claims, pictures


def _distinct(data: bytes) -> int:
    return len(set(blocks(data)))


def _repeated(items: list[bytes]) -> int:
    return sum(times for times in Counter(items).values() if times > 1)


def repeated_by_rule(data: bytes) -> int:
    """How many blocks repeat by the rule of CBC with one IV, told from the plaintext alone.

    The ciphertext of a block depends on all that stands before it in its sector.  So two blocks are
    equal where their sectors are equal from the begin to there.
    """
    size = SECTOR_SIZE
    prefixes = [
        data[start : start + end]
        for start in range(0, len(data), size)
        for end in range(BLOCK_SIZE, size + 1, BLOCK_SIZE)
    ]
    return _repeated(prefixes)


def _picture(title: str, data: bytes, about: str) -> Pixels:
    cells, palette = shaded(blocks(data))
    return Pixels(title, f"ciphertext; {about}", WIDTH, cells, palette)


DEMONSTRATION = Demonstration(
    name="picture",
    title="A picture that shows through, where IVs are constant",
    claim=(
        "Without IVs, or with the same for all sectors, equal data has equal ciphertext: a "
        "picture can be seen in the file. Sector numbers as IVs are enough against this."
    ),
    story=paragraphs(
        """
        A block cipher gives the same output for the same input. In ECB, which has no IVs and no
        chain, each colour of a picture becomes another one, and the picture stays. QEMU makes
        such images: LUKS takes cipher-mode=ecb.

        CBC with one IV for all sectors hides less than one thinks: two sectors have the same
        ciphertext up to the first block in which they differ. In the picture the left part of
        each sector of 32 pixels shows, and all sectors that are alike.

        Legacy AES has the sector number as its IV, so this is the one thing of all here that it
        gets right: in one copy of the disk nothing repeats. It repeats over time, in snapshots
        and copies: see the demonstration snapshot.
        """
    ),
    answer=paragraphs(
        """
        Any IV that differs between sectors hides equal data: the last figures are those of sector
        numbers, ESSIV and XTS. What they differ in is what somebody can do who chooses data
        (watermark) or changes the file (bitflip, move).
        """
    ),
    sources=(SP800_38A, FRUHWIRTH, QEMU_FLAWS),
    run=run,
)

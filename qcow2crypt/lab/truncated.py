"""Truncated: only the first 16 bytes of the passphrase count."""

from __future__ import annotations

from qcow2crypt.crypt.legacy_aes import KEY_SIZE, key_from_passphrase
from qcow2crypt.lab import modes
from qcow2crypt.lab.base import QEMU, ByteMap, Claim, Command, Demonstration, Result, paragraphs
from qcow2crypt.lab.counting import changed_bytes, equal, sectors
from qcow2crypt.lab.desk import NO_QEMU, Desk, read
from qcow2crypt.lab.qemu import Qemu, io_line
from qcow2crypt.lab.sources import LUKS1, QEMU_FLAWS, RFC8018
from qcow2crypt.units import SECTOR_SIZE

CHOSEN = "correct-horse-battery-staple"
OTHER = "correct-horse-bananas"
CYRILLIC = "\u043f\u0430\u0440\u043e\u043b\u044c" * 2
"""Twelve letters, two bytes each."""
DISK_SECTORS = 128
TEXT = b"The owner chose 28 letters to be safe. "


def disk() -> bytes:
    """What the owner keeps."""
    return (TEXT * (DISK_SECTORS * SECTOR_SIZE))[: DISK_SECTORS * SECTOR_SIZE]


def counting_letters(passphrase: str) -> int:
    """How many letters matter: another one in their place makes another key."""
    keys = [
        key_from_passphrase(passphrase[:place] + _other(letter) + passphrase[place + 1 :])
        for place, letter in enumerate(passphrase)
    ]
    return sum(key != key_from_passphrase(passphrase) for key in keys)


def _other(letter: str) -> str:
    """The next letter, which has as many bytes."""
    return chr(ord(letter) + 1)


def run(desk: Desk) -> Result:
    """Encrypt with a long passphrase, read with another one."""
    image = desk.aes("long", disk(), CHOSEN)
    seen = read(image, 0, DISK_SECTORS, OTHER)
    claims = [
        Claim(
            "read",
            f"sectors of an image with the passphrase '{CHOSEN}' that are read right with "
            f"'{OTHER}'",
            equal(sectors(seen), sectors(disk())),
            DISK_SECTORS,
            DISK_SECTORS,
            chance="0",
        ),
        Claim(
            "letters",
            "letters of the long passphrase that count: to change another one changes nothing",
            counting_letters(CHOSEN),
            KEY_SIZE,
            len(CHOSEN),
        ),
        Claim(
            "keys",
            f"different keys among its {len(CHOSEN)} beginnings, of 1, 2, 3, ... letters",
            len({key_from_passphrase(CHOSEN[:end]) for end in range(1, len(CHOSEN) + 1)}),
            KEY_SIZE,
            len(CHOSEN),
        ),
        Claim(
            "utf8",
            "letters that count in a passphrase of 12 Cyrillic ones, which have two bytes each",
            counting_letters(CYRILLIC),
            KEY_SIZE // 2,
            len(CYRILLIC),
        ),
        Claim(
            "zeros",
            "zero bytes, known to everybody, in the key of the short passphrase "
            f"'{modes.PASSPHRASE}'",
            key_from_passphrase(modes.PASSPHRASE).count(0),
            KEY_SIZE - len(modes.PASSPHRASE),
            KEY_SIZE,
            chance="0.06",
        ),
        Claim(
            "within",
            "sectors read right with a passphrase that differs in letter 16",
            equal(
                sectors(read(image, 0, DISK_SECTORS, CHOSEN[:15] + "X" + CHOSEN[16:])),
                sectors(disk()),
            ),
            0,
            DISK_SECTORS,
            side="contrast",
        ),
    ]
    letters = CHOSEN.encode()
    pictures = (
        ByteMap(
            "The passphrase and the key",
            "16 bytes in a row: the first row is the key, the second has no effect",
            letters,
            "".join("!" if place < KEY_SIZE else "." for place in range(len(letters))),
            {"!": "a byte of the key"},
        ),
    )
    files = [("long.qcow2", f"legacy AES, passphrase {CHOSEN}")]
    not_run = []
    if desk.qemu is None:
        not_run.append(NO_QEMU)
    else:
        claims += _by_qemu(desk, desk.qemu)
        files.append(("long-luks.qcow2", f"LUKS, passphrase {CHOSEN}"))
    commands = (
        Command(
            io_line("read -v 0 48", image="long.qcow2", passphrase=OTHER),
            "the text, with the other passphrase",
        ),
        Command(
            io_line("read -v 0 48", image="long.qcow2", passphrase=CHOSEN[:KEY_SIZE]),
            "and with the first 16 letters",
        ),
    )
    return Result(tuple(claims), pictures, tuple(files), commands, tuple(not_run))


def _by_qemu(desk: Desk, qemu: Qemu) -> list[Claim]:
    seen = qemu.read(desk.folder / "long.qcow2", OTHER)
    luks = desk.folder / "long-luks.qcow2"
    qemu.create_luks(luks, len(disk()), CHOSEN, "xts")
    right = qemu.read(luks, CHOSEN) == bytes(len(disk()))
    return [
        Claim(
            "qemu",
            f"bytes of the AES image that QEMU reads in another way with '{OTHER}'",
            changed_bytes(seen, disk()),
            0,
            len(disk()),
            chance=f"about {len(disk()) * 255 // 256:,}",
            by=QEMU,
        ),
        Claim(
            "luks-right",
            f"LUKS image with the passphrase '{CHOSEN}', opened with that one",
            "opened" if right else "garbage",
            "opened",
            side="contrast",
            by=QEMU,
        ),
        Claim(
            "luks",
            f"the same LUKS image, opened with '{OTHER}'",
            "refused" if qemu.refuses(luks, OTHER) else "opened",
            "refused",
            side="contrast",
            by=QEMU,
        ),
    ]


DEMONSTRATION = Demonstration(
    name="truncated",
    title="A cut passphrase: 16 bytes count, the rest is thrown away",
    claim=(
        "Of a long passphrase only the first 16 bytes are used, and nobody is told. A short one "
        "is filled up with zeros."
    ),
    story=paragraphs(
        """
        The key of AES-128 has 16 bytes, and legacy qcow2 takes them from the passphrase as they
        are. What is behind byte 16 has no meaning; a passphrase that is shorter is filled with
        zero bytes. So 'correct-horse-battery-staple' and 'correct-horse-bananas' are one
        passphrase.

        Bytes count, not letters: in UTF-8 a Cyrillic or Greek letter has two, a Chinese one
        three, so that 8 or 5 of them are all there is. The cut may go through a letter.

        It also means that the key is text. A key that people can type holds far fewer than 128
        random bits.
        """
    ),
    answer=paragraphs(
        """
        A key derivation function takes passphrases of any length and spreads every byte of them
        over the whole key. LUKS uses PBKDF2 and refuses what is not the passphrase.
        """
    ),
    sources=(QEMU_FLAWS, LUKS1, RFC8018),
    run=run,
)

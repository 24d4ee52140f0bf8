"""Salt: there is none.  The same passphrase and the same writes make the same file."""

from __future__ import annotations

from itertools import count

from qcow2crypt.lab import modes
from qcow2crypt.lab.base import QEMU, Claim, Command, Demonstration, Pixels, Result, paragraphs
from qcow2crypt.lab.counting import changed_bytes, equal, sectors
from qcow2crypt.lab.desk import NO_QEMU, Desk, ciphertext
from qcow2crypt.lab.qemu import Qemu, io_line
from qcow2crypt.lab.sources import LUKS1, QEMU_FLAWS, RFC8018
from qcow2crypt.lab.stored import Stored
from qcow2crypt.units import SECTOR_SIZE

DISK_SECTORS = 256
KNOWN, KNOWN_COUNT = 64, 64
"""A file that lies at the same place on many disks, such as a part of an installed system."""
WORDS = (
    "123456", "password", "qwerty", "letmein", "dragon", "monkey", "abc123", "iloveyou",
    "sunshine", "princess", "football", "welcome", "shadow", "master", "hunter2", "trustno1",
    modes.PASSPHRASE, "correct-horse",
)  # fmt: skip
"""A list of passphrases to try.  Real ones have millions."""


def text(owner: str, sector: int) -> bytes:
    """A sector of somebody's disk; the known file is the same on all of them."""
    if KNOWN <= sector < KNOWN + KNOWN_COUNT:
        owner = "system"
    return (f"{owner}, sector {sector}. ".encode() * SECTOR_SIZE)[:SECTOR_SIZE]


def disk(owner: str) -> bytes:
    """A whole disk."""
    return b"".join(text(owner, sector) for sector in range(DISK_SECTORS))


def guess(secret: bytes, known: bytes, sector: int) -> int | None:
    """At which word of the list, from 1, the passphrase is found; None if it is not in it.

    One sector of known text is enough, and one block of it: each guess costs one AES key and one
    block.
    """
    for number, word in zip(count(1), WORDS):
        if modes.legacy(known, sector, word)[:16] == secret[:16]:
            return number
    return None


def run(desk: Desk) -> Result:
    """Make the same image twice, others beside it, and try a list of words."""
    first = desk.aes("alice", disk("Alice"))
    again = desk.aes("alice-again", disk("Alice"))
    bob = desk.aes("bob", disk("Bob"))
    other = desk.aes("other-passphrase", disk("Alice"), "another-sesame")
    whole = sectors(ciphertext(first, 0, DISK_SECTORS))
    size = first.stat().st_size
    claims = [
        Claim(
            "same",
            "bytes in which two image files differ that were made apart from each other, with the "
            "same passphrase and the same writes",
            changed_bytes(first.read_bytes(), again.read_bytes()),
            0,
            size,
            chance=f"about {DISK_SECTORS * SECTOR_SIZE * 255 // 256:,}",
        ),
        Claim(
            "known",
            "sectors of a file that Alice and Bob both have at the same place, with equal "
            "ciphertext in both images: they chose the same passphrase, and it shows",
            equal(sectors(ciphertext(bob, KNOWN, KNOWN_COUNT)), whole[KNOWN : KNOWN + KNOWN_COUNT]),
            KNOWN_COUNT,
            KNOWN_COUNT,
            chance="0",
        ),
        Claim(
            "guess",
            f"word of a list of {len(WORDS)} with which the passphrase is found, from one known "
            "block. A guess costs one AES key and one block, and works for all images at once",
            guess(whole[KNOWN], text("", KNOWN), KNOWN) or 0,
            WORDS.index(modes.PASSPHRASE) + 1,
            len(WORDS),
        ),
        Claim(
            "other",
            "sectors with equal ciphertext under another passphrase",
            equal(sectors(ciphertext(other, 0, DISK_SECTORS)), whole),
            0,
            DISK_SECTORS,
            side="contrast",
        ),
    ]
    pictures = (
        _picture("The same passphrase", whole, sectors(ciphertext(bob, 0, DISK_SECTORS))),
        _picture(
            "Another passphrase",
            sectors(ciphertext(other, 0, DISK_SECTORS)),
            sectors(ciphertext(bob, 0, DISK_SECTORS)),
        ),
    )
    files = [
        ("alice.qcow2", "Alice's disk"),
        ("alice-again.qcow2", "the same, made once more"),
        ("bob.qcow2", "Bob's disk, who has the same passphrase"),
        ("other-passphrase.qcow2", "Alice's disk with another passphrase"),
    ]
    not_run = []
    if desk.qemu is None:
        not_run.append(NO_QEMU)
    else:
        claims += _by_qemu(desk, desk.qemu, first.read_bytes())
        files += [
            ("alice-by-qemu.qcow2", "the same, made by qemu-img"),
            ("alice-luks.qcow2", "Alice's disk as a LUKS image"),
            ("alice-luks-again.qcow2", "once more, with the same passphrase"),
        ]
    commands = (
        Command("cmp alice.qcow2 alice-again.qcow2 && echo the same", "the same"),
        Command("sha256sum *.qcow2", "which files are equal"),
        Command(io_line("read -v 32k 48", image="bob.qcow2"), "the file that Bob has, too"),
    )
    return Result(tuple(claims), pictures, tuple(files), commands, tuple(not_run))


def _picture(title: str, alice: list[bytes], bob: list[bytes]) -> Pixels:
    cells = bytes(one == other for one, other in zip(alice, bob, strict=True))
    about = "Alice's image beside Bob's: a cell for each sector; dark: equal ciphertext"
    return Pixels(title, about, 16, cells, ((222, 226, 233), (178, 58, 30)))


def _by_qemu(desk: Desk, qemu: Qemu, ours: bytes) -> list[Claim]:
    target = desk.folder / "alice-by-qemu.qcow2"
    raw = desk.raw("alice", disk("Alice"))
    qemu.make_aes(raw, target)
    raw.unlink()
    pair = (
        desk.luks("alice-luks", disk("Alice")),
        desk.luks("alice-luks-again", disk("Alice"), fresh=True),
    )
    one, two = (sectors(ciphertext(image, 0, DISK_SECTORS)) for image in pair)
    with Stored(pair[0]) as stored:
        rounds = stored.luks().slots[0].iterations
    return [
        Claim(
            "qemu",
            "bytes in which the file differs that qemu-img makes, with the same passphrase from "
            "the same disk",
            changed_bytes(ours, target.read_bytes()),
            0,
            len(ours),
            by=QEMU,
        ),
        Claim(
            "luks",
            "sectors with equal ciphertext in two LUKS images with the same passphrase and the "
            "same disk",
            equal(one, two),
            0,
            DISK_SECTORS,
            side="contrast",
            by=QEMU,
        ),
        Claim(
            "luks-guess",
            "rounds of PBKDF2 that one guess costs with this LUKS image, which was told to take no "
            "time; without that, qemu-img takes as many as need two seconds",
            rounds,
            1000,
            side="contrast",
            by=QEMU,
        ),
    ]


DEMONSTRATION = Demonstration(
    name="salt",
    title="No salt: the same passphrase, the same file",
    claim=(
        "Equal passphrases show, data that two images share shows, and one guess at a passphrase "
        "is as cheap as AES."
    ),
    story=paragraphs(
        """
        The bytes of the passphrase are the key. Nothing is random: no salt, no master key, no
        nonce. So the image is a function of the passphrase and what was written, and two people
        who do the same get the same file.

        It follows that a file which lies at the same place on two disks has the same ciphertext
        in both if the passphrase is the same: whoever has both images sees it. One table of
        ciphertexts of a known sector, one for each likely passphrase, opens every image in the
        world that has this sector.

        And nothing slows a guess down: the start of a boot sector or a file system is known, so
        one block tells whether a passphrase is right.
        """
    ),
    answer=paragraphs(
        """
        LUKS encrypts with a random master key, which two images that were made apart never share.
        The master key is wrapped under PBKDF2 of the passphrase with a random salt: a table is of
        no use, and each guess costs as many rounds as the maker chose.
        """
    ),
    sources=(QEMU_FLAWS, LUKS1, RFC8018),
    run=run,
)

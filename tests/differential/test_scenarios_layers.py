"""Known scenarios of encrypted disks with a backing file, odd passphrases and none, by all writers.

The rows: E2 a small write into an overlay encrypts anew what the base has around it; E15 a
passphrase that is not UTF-8; E20 no passphrase; A1 only 16 bytes of a passphrase count; A2 a
newline at the end of a passphrase file.
"""

from __future__ import annotations

import shutil

import pytest
from support.differential import CLUSTER_SIZES, PASSPHRASE, Case, NewCase, Target
from support.scenarios import DIRECTION_NAMES, DIRECTIONS, created, write

import qcow2crypt
from qcow2crypt.errors import SecretRequiredError
from qcow2crypt.secret import Secret
from qcow2crypt.testing.witness import Disk

MIB = 1 << 20
directions = pytest.mark.parametrize(("maker", "writer"), DIRECTIONS, ids=DIRECTION_NAMES)


def overlay(case: Case, who: str, target: Target, base: Disk) -> Disk:
    """An overlay that nobody looks at the base for."""
    path = case.folder / "overlay"
    words = ["create", "-q", "-u", "-f", "qcow2", *target.words, "-b", base.path.name]
    words += ["-F", "qcow2", str(path), str(MIB)]
    (case.ours if who == "ours" else case.theirs)(*words)
    return Disk(path, "qcow2", target.passphrase)


class Chain:
    """An encrypted overlay over an encrypted base, each with a passphrase of its own."""

    def __init__(self, case: Case, top: Disk, base: Disk) -> None:
        self.case = case
        self.top = top
        self.secrets: dict[str | int, Secret] = {0: top.passphrase, 1: base.passphrase}
        self.objects = [*top.secret("s0"), *base.secret("s1")]
        self.options = (
            f"driver=qcow2,encrypt.key-secret=s0,file.filename={top.path},"
            "backing.encrypt.key-secret=s1"
        )

    def write(self, who: str, pattern: int, offset: int, length: int) -> None:
        if who == "theirs":
            self.qemu_io(f"write -P {pattern} {offset} {length}")
            return
        with self.open("r+") as image:
            image.pwrite(bytes([pattern]) * length, offset)

    def holds(self, pattern: int, offset: int, length: int) -> None:
        """R(pattern, offset, length), by both."""
        self.qemu_io(f"read -P {pattern} {offset} {length}")
        with self.open("r") as image:
            assert image.pread(length, offset) == bytes([pattern]) * length

    def open(self, mode: str) -> qcow2crypt.Image:
        return qcow2crypt.open(self.top.path, mode=mode, secrets=self.secrets)

    def nothing_to_find(self) -> None:
        """``qemu-img check`` of the overlay; a leak would be a failure too."""
        words = ["check", *self.objects, "--image-opts", self.options]
        assert "No errors were found" in self.case.theirs(*words).stdout

    def qemu_io(self, command: str) -> None:
        done = self.case.qemu.run_io(*self.objects, "-c", command, "--image-opts", self.options)
        assert done.returncode == 0, done


@directions
@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize("cluster_size", CLUSTER_SIZES)
def test_e2(new_case: NewCase, cluster_size: int, version: int, maker: str, writer: str) -> None:
    with new_case() as case:
        base = created(case, maker, Target(passphrase="below"), MIB, "base")
        write(case, writer, base, 0xA, 0, MIB)
        top = overlay(case, maker, Target("qcow2", cluster_size, version, PASSPHRASE), base)
        chain = Chain(case, top, base)
        chain.holds(0xA, 0, MIB)
        chain.write(writer, 0xE, 0, 1024)
        chain.holds(0xE, 0, 1024)
        chain.holds(0xA, 1024, MIB - 1024)
        # The same across a cluster border, and far from the start.
        chain.write(writer, 0xD, MIB // 2 - 512, 1024)
        chain.holds(0xA, 1024, MIB // 2 - 1536)
        chain.holds(0xD, MIB // 2 - 512, 1024)
        chain.holds(0xA, MIB // 2 + 512, MIB // 2 - 512)
        chain.nothing_to_find()
        case.holds(base, 0xA, 0, MIB)


@directions
@pytest.mark.parametrize("cluster_size", [16384, 65536, 2 << 20])
def test_e2_with_subclusters(new_case: NewCase, cluster_size: int, maker: str, writer: str) -> None:
    with new_case() as case:
        base = created(case, maker, Target(passphrase=PASSPHRASE), MIB, "base")
        write(case, writer, base, 0xA, 0, MIB)
        target = Target(cluster_size=cluster_size, passphrase=PASSPHRASE, more="extended_l2=on")
        chain = Chain(case, overlay(case, maker, target, base), base)
        chain.write(writer, 0xE, 0, 1024)
        chain.write(writer, 0xD, cluster_size // 4 + 512, 512)
        chain.holds(0xE, 0, 1024)
        chain.holds(0xA, 1024, cluster_size // 4 - 512)
        chain.holds(0xD, cluster_size // 4 + 512, 512)
        end = cluster_size // 4 + 1024
        chain.holds(0xA, end, MIB - end)
        chain.nothing_to_find()


@directions
def test_a1_only_16_bytes_count(new_case: NewCase, maker: str, writer: str) -> None:
    """Who writes knows another passphrase, with the same beginning."""
    with new_case() as case:
        image = created(case, maker, Target(passphrase="0123456789abcdefZZZ"), MIB)
        same = Disk(image.path, "qcow2", "0123456789abcdefYY")
        write(case, writer, same, 0x77, 1000, 70_000)
        for disk in (image, same):
            case.holds(disk, 0, 0, 1000)
            case.holds(disk, 0x77, 1000, 70_000)
        case.nothing_to_find(image)


@directions
def test_a2_a_newline_makes_another_key(new_case: NewCase, maker: str, writer: str) -> None:
    """Two keys in one image: what was written with a key is read with that key only."""
    with new_case() as case:
        image = created(case, maker, Target(cluster_size=4096, passphrase="secret"), MIB)
        newline = Disk(image.path, "qcow2", "secret\n")
        write(case, writer, image, 0x11, 0, 8192)
        write(case, writer, newline, 0x22, 4096, 4096)
        case.holds(image, 0x11, 0, 4096)
        case.holds(newline, 0x22, 4096, 4096)
        case.both_read_the_same(image)
        case.both_read_the_same(newline)
        case.nothing_to_find(image)


WRITING = {
    "resize": "resize {secret} --image-opts {options} 2M",
    "rebase": "rebase {secret} -b '' --image-opts {options}",
    "commit": "commit {secret} --image-opts {options}",
    "convert -n": "convert {secret} -n -f raw --target-image-opts source {options}",
}
"""Commands that write to the disk of an image that is there."""


def untouched(case: Case, words: dict[str, str], line: str) -> None:
    """Both refuse the line, with the same exit code, and the images stay what they are."""
    names = ("image", "base")
    before = {name: (case.folder / name).read_bytes() for name in names}
    outcomes = [run(*line_words(line, words), check=False) for run in (case.theirs, case.ours)]
    assert [outcome.status for outcome in outcomes] == [1, 1], outcomes
    for name in names:
        assert (case.folder / name).read_bytes() == before[name], line


def line_words(line: str, words: dict[str, str]) -> list[str]:
    """The words of a line; a word in braces may stand for several, or none."""
    found = []
    for word in line.split():
        found += words[word[1:-1]].split() if word.startswith("{") else [word.replace("''", "")]
    return found


@pytest.mark.parametrize("line", WRITING.values(), ids=WRITING)
@pytest.mark.parametrize("what", ["no passphrase", "not UTF-8"])
def test_e15_e20_commands_that_write(new_case: NewCase, what: str, line: str) -> None:
    """Without a passphrase, or with one that is not UTF-8, nothing is changed."""
    with new_case() as case:
        base = case.folder / "base"
        base.write_bytes(b"\x0a" * MIB)
        shutil.copy(base, case.folder / "source")
        target = Target(passphrase=PASSPHRASE)
        words: list[str] = ["create", "-q", "-f", "qcow2", *target.words, "-b", "base", "-F", "raw"]
        case.ours(*words, case.folder / "image", str(MIB))
        (case.folder / "odd").write_bytes(b":<;\xff")
        secret, key = "", ""
        if what == "not UTF-8":
            secret = f"--object secret,id=s0,file={case.folder / 'odd'}"
            key = ",encrypt.key-secret=s0"
        options = f"driver=qcow2,file.filename={case.folder / 'image'}{key}"
        line = line.replace(" source ", f" {case.folder / 'source'} ")
        untouched(case, {"secret": secret, "options": options}, line)


def test_e20_open_for_writing_without_a_passphrase(new_case: NewCase) -> None:
    with new_case() as case:
        image = created(case, "theirs", Target(passphrase=PASSPHRASE), MIB)
        before = image.path.read_bytes()
        with pytest.raises(SecretRequiredError):
            qcow2crypt.open(image.path, mode="r+")
        assert image.path.read_bytes() == before
        done = case.qemu.run_io("-c", "write 0 512", image.path)
        assert done.returncode == 1

"""Every kind of passphrase makes the key that QEMU makes of it, and no other."""

from __future__ import annotations

import pytest
from support.differential import NewCase, Target, Word, padded
from support.differential_content import data_bytes
from support.differential_directions import three_directions

from qcow2crypt.testing.witness import Disk

PASSPHRASES = {
    "empty": "",
    "one byte": "x",
    "15 bytes": "0123456789abcde",
    "16 bytes": "0123456789abcdef",
    "17 bytes": "0123456789abcdefg",
    "40 bytes": "0123456789" * 4,
    "not ASCII": "pässwörd €",
    "a character cut at byte 16": "0123456789abcdeé and more",
    "a long character cut at byte 16": "0123456789abc\N{CLINKING BEER MUGS}",
    "commas, equals signs and quotes": "a,b=c,,'\"{}",
    "spaces and a newline": " a \n",
}
GUEST = data_bytes(5 * 4096 + 77, 1)


@pytest.mark.parametrize("passphrase", PASSPHRASES.values(), ids=PASSPHRASES)
@pytest.mark.parametrize("cluster_size", [512, 65536])
def test_on_the_command_line(new_case: NewCase, passphrase: str, cluster_size: int) -> None:
    with new_case() as case:
        target = Target(cluster_size=cluster_size, passphrase=passphrase)
        three_directions(case, case.raw(GUEST), padded(GUEST), target)


@pytest.mark.parametrize("passphrase", PASSPHRASES.values(), ids=PASSPHRASES)
def test_from_a_file(new_case: NewCase, passphrase: str) -> None:
    """Every byte of the file counts, a newline too."""
    with new_case() as case:
        file = case.folder / "passphrase"
        file.write_bytes(passphrase.encode())
        case.raw(GUEST)
        words = ["convert", "--object", f"secret,id=s0,file={file}", "-O", "qcow2", "-f", "raw"]
        words += ["-o", "encrypt.format=aes,encrypt.key-secret=s0", str(case.folder / "source")]
        case.theirs(*words, case.folder / "theirs")
        case.ours(*words, case.folder / "ours")
        case.same_files(case.folder / "theirs", case.folder / "ours")
        written = Disk(case.folder / "theirs", secret_file=file)
        case.same_guest(case.guest_by_us(written), padded(GUEST), "read with the file")


@pytest.mark.parametrize("passphrase", PASSPHRASES.values(), ids=PASSPHRASES)
def test_from_one_passphrase_to_another(new_case: NewCase, passphrase: str) -> None:
    with new_case() as case:
        old, _ = case.convert(case.raw(GUEST), Target(passphrase=passphrase))
        source = Disk(old.path.rename(case.folder / "old"), "qcow2", passphrase)
        target = Target(cluster_size=4096, passphrase="the next one")
        three_directions(case, source, padded(GUEST), target)


def test_only_the_first_16_bytes_count(new_case: NewCase) -> None:
    with new_case() as case:
        first, second = "0123456789abcdefZZZ", "0123456789abcdefYY"
        theirs, ours = case.convert(case.raw(GUEST), Target(passphrase=first))
        for path in (theirs.path, ours.path):
            other = Disk(path, "qcow2", second)
            case.same_guest(case.guest_by_us(other), padded(GUEST), "read with the other", path)
            case.same_guest(case.guest_by_them(other), padded(GUEST), "the same by qemu-img", path)


def test_a_wrong_passphrase_gives_the_same_noise(new_case: NewCase) -> None:
    """Nothing can tell it is wrong: both succeed, with the same garbage."""
    with new_case() as case:
        theirs, _ = case.convert(case.raw(GUEST), Target(passphrase="right"))
        wrong = Disk(theirs.path, "qcow2", "wrong")
        noise = case.both_read_the_same(wrong)
        assert noise != padded(GUEST)


def test_a_newline_at_the_end_is_another_passphrase(new_case: NewCase) -> None:
    with new_case() as case:
        theirs, _ = case.convert(case.raw(GUEST), Target(passphrase="secret"))
        file = case.folder / "passphrase"
        file.write_bytes(b"secret\n")
        wrong = Disk(theirs.path, secret_file=file)
        assert case.both_read_the_same(wrong) != padded(GUEST)
        stripped: list[Word] = ["--secret-file", file, "--secret-strip-newline", theirs.path]
        case.ours("convert", "-O", "raw", *stripped, case.folder / "stripped")
        found = (case.folder / "stripped").read_bytes()
        case.same_guest(found, padded(GUEST), "read without the newline", theirs.path)


@pytest.mark.parametrize("stub", [False, True], ids=["no target", "a target that exists"])
@pytest.mark.parametrize("command", ["create", "convert"])
def test_bytes_that_are_not_utf8_are_refused(new_case: NewCase, stub: bool, command: str) -> None:
    """No file is left behind; one that stood there before: qemu-img may ruin it, we never do."""
    with new_case() as case:
        file = case.folder / "passphrase"
        file.write_bytes(b":<;\xff")
        source = case.raw(GUEST)
        words: list[Word] = ["--object", f"secret,id=s0,file={file}"]
        words += ["-o", "encrypt.format=aes,encrypt.key-secret=s0"]
        for run in (case.theirs, case.ours):
            target = case.folder / "target"
            if stub:
                target.write_bytes(b"stub")
            names: list[Word] = ["-f", "qcow2", target, "1M"]
            if command == "convert":
                names = ["-O", "qcow2", "-f", "raw", source.path, target]
            outcome = run(command, *words, *names, check=False)
            assert outcome.status == 1
            assert "UTF-8" in outcome.stderr
            if stub and run == case.ours:
                assert target.read_bytes() == b"stub"
            elif not stub:
                assert not target.exists()
            target.unlink(missing_ok=True)

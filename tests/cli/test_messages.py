"""Messages: which file of several is meant, and what to do next."""

from __future__ import annotations

from pathlib import Path

import golden
import pytest
from cli.commandline import PASSPHRASE, Run
from support.chains import overlay

import qcow2crypt
from qcow2crypt.crypt.cipher import SectorCipher
from qcow2crypt.testing.damage.tiny import entry, put, tiny
from qcow2crypt.units import SectorNumber


@pytest.fixture
def over_damage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """``top`` over ``middle`` over ``low``, in which an L2 entry is wrong."""
    monkeypatch.chdir(tmp_path)
    body = tiny(3, 12)
    Path("low").write_bytes(put(body.data, body.l2, entry(0x5200)))
    overlay(tmp_path / "middle", "low", backing_format="qcow2")
    overlay(tmp_path / "top", "middle", backing_format="qcow2")
    return tmp_path


@pytest.mark.parametrize(
    "words",
    [
        ("convert", "top", "out"),
        ("map", "top"),
        ("compare", "top", "middle"),
        ("dd", "if=top", "of=x"),
    ],
)
def test_a_damaged_backing_file_is_named_once(
    words: tuple[str, ...], over_damage: Path, run: Run
) -> None:
    done = run(*words)
    assert done.status != 0
    assert "L2 entry is not valid" in done.err
    assert done.err.count("(in ") == 1
    assert "(in backing file" in done.err
    assert "low')" in done.err


def test_which_of_two_images_is_none(tmp_path: Path, raw: Path, encrypted: Path, run: Run) -> None:
    done = run("compare", "-f", "qcow2", raw, encrypted)
    assert done.status == 2
    assert f"(in '{raw}')" in done.err


def test_deleting_a_snapshot_wants_a_name(tmp_path: Path, run: Run) -> None:
    path = tmp_path / "image"
    path.write_bytes(golden.load("aes-c512-snapshot.qcow2").data)
    done = run("snapshot", "-d", "1", path)
    assert done.status == 1
    assert "no snapshot of the name '1' (-d takes no id); it has: 'snap1'" in done.err
    assert run("snapshot", "-d", "snap1", path).status == 0


def test_a_target_in_use_is_not_to_be_read_by_force(raw: Path, encrypted: Path, run: Run) -> None:
    with qcow2crypt.open(str(encrypted), PASSPHRASE, "r+"):
        words = ["--target-secret-file", raw.with_name("key")]
        done = run("convert", "-n", "-O", "qcow2", *words, raw, encrypted)
    assert done.status == 1
    assert "is in use" in done.err
    assert "--force-share" not in done.err


def test_a_version_2_image_with_snapshots_says_how_to_resize_it(tmp_path: Path, run: Run) -> None:
    path = tmp_path / "image"
    assert run("create", "-q", "-f", "qcow2", "-o", "compat=0.10", path, "1M").status == 0
    assert run("snapshot", "-c", "one", path).status == 0
    done = run("resize", path, "2M")
    assert done.status == 1
    assert "amend -o compat=1.1" in done.err
    assert run("amend", "-o", "compat=1.1", path).status == 0
    assert run("resize", path, "2M").status == 0
    told = "the disk had another size in snapshots: 1 'one' of 1048576 bytes"
    assert told in run("info", path).out
    assert run("snapshot", "-a", "one", path).status == 0
    assert told not in run("info", path).out


def test_convert_reads_what_qemu_spoiled(encrypted: Path, key: Path, run: Run) -> None:
    with qcow2crypt.open(str(encrypted), PASSPHRASE) as image:
        extent = next(each for each in image.own_extents() if each.host_offset is not None)
    assert extent.host_offset is not None
    at, guest = extent.host_offset + 512, extent.guest_offset + 512
    wrong = SectorCipher.from_passphrase(PASSPHRASE).encrypt(bytes(512), SectorNumber(at // 512))
    encrypted.write_bytes(put(encrypted.read_bytes(), at, wrong + bytes(512)))
    target = encrypted.with_name("out")
    words = ("convert", "-q", "--secret-file", key)
    for options, zeros in (
        ((), (False, False)),
        (("--wrong-iv",), (True, False)),
        (("--raw-zeros",), (False, True)),
        (("--wrong-iv", "--raw-zeros"), (True, True)),
    ):
        assert run(*words, *options, encrypted, target).status == 0
        disk = target.read_bytes()[guest : guest + 1024]
        assert (not any(disk[:512]), not any(disk[512:])) == zeros

"""check: exit codes, output for people and programs, options, given to qemu-img and to us."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from cli.both import Both
from cli.commandline import PASSPHRASE, Run
from cli.schemas import schema

import qcow2crypt
from qcow2crypt.cli import cmd_check
from qcow2crypt.crypt.cipher import SectorCipher
from qcow2crypt.testing.damage.tiny import COPIED, entry, put, tiny
from qcow2crypt.testing.witness import Disk, QemuImg
from qcow2crypt.units import SectorNumber

SOUND = tiny(3, 9)
LEAK = put(SOUND.data, 1024 + 40, b"\0\1") + bytes(8192)
NO_FLAG = put(SOUND.data, SOUND.l2, entry(SOUND.clusters[0]))
UNCOUNTED = put(SOUND.data, 1024 + 12, bytes(2))
IMAGES = {
    "sound": SOUND.data,
    "leak": LEAK,
    "flag": NO_FLAG,
    "both": put(LEAK, SOUND.l2, entry(SOUND.clusters[0])),
    "uncounted": UNCOUNTED,
    "bad-block": put(SOUND.data, 512, entry(1024 + 256)),
    "bad-snapshots": put(put(SOUND.data, 60, b"\0\0\0\1"), 64, entry(512)),
    "cut": SOUND.data[:2600],
    "other": b"not an image" * 100,
}
LINES = [
    "check -f qcow2 {}",
    "check -f qcow2 --output=json {}",
    "check -f qcow2 -q {}",
    "check -f qcow2 -q --output json {}",
    "check -f qcow2 -r leaks {}",
    "check -f qcow2 -r leaks --output=json {}",
    "check -f qcow2 -U {}",
    "check --image-opts driver=qcow2,file.filename={}",
]
REPAIRS = ["check -f qcow2 -r all {}", "check -f qcow2 --repair=all --output=json {}"]


def outputs(
    line: str, name: str, both: Both, monkeypatch: pytest.MonkeyPatch
) -> tuple[tuple[int, Any], tuple[int, Any]]:
    """Exit code and standard output of both; JSON as values, its order says nothing."""
    for folder in (both.theirs, both.ours):
        (folder / name).write_bytes(IMAGES[name])
    theirs, ours = both(shlex.split(line.format(name)), monkeypatch)
    found = []
    for one in (theirs, ours):
        out = json.loads(one.out) if one.out.startswith("{") else one.out
        found.append((one.status, out))
    if isinstance(found[1][1], dict):
        jsonschema.validate(found[1][1], schema("check"))
    return found[0], found[1]


@pytest.mark.parametrize("name", IMAGES)
@pytest.mark.parametrize("line", LINES)
def test_both_say_the_same(
    line: str, name: str, both: Both, monkeypatch: pytest.MonkeyPatch
) -> None:
    theirs, ours = outputs(line, name, both, monkeypatch)
    assert ours == theirs


@pytest.mark.parametrize("name", ["sound", "leak", "flag", "both"])
@pytest.mark.parametrize("line", REPAIRS)
def test_both_repair_the_same(
    line: str, name: str, both: Both, monkeypatch: pytest.MonkeyPatch
) -> None:
    theirs, ours = outputs(line, name, both, monkeypatch)
    assert ours == theirs
    assert qcow2crypt.check(str(both.ours / name)).status == 0


@pytest.mark.parametrize("name", ["uncounted", "bad-block"])
def test_what_is_written_anew_lies_elsewhere(
    name: str, both: Both, monkeypatch: pytest.MonkeyPatch, qemu_img: QemuImg
) -> None:
    _, (status, found) = outputs(REPAIRS[1], name, both, monkeypatch)
    assert status == 0
    assert found["corruptions-fixed"] >= 1
    again = qemu_img.check(Disk(both.ours / name))
    assert not {"leaks", "corruptions"} & again.keys()


@pytest.mark.parametrize(
    ("line", "status"),
    [
        ("check", 1),
        ("check plain.qcow2 plain.qcow2", 1),
        ("check nothing-there", 1),
        ("check -r both plain.qcow2", 1),
        ("check -r", 1),
        ("check -r all -U plain.qcow2", 1),
        ("check --output=xml plain.qcow2", 1),
        ("check -T bogus plain.qcow2", 1),
        ("check -T none plain.qcow2", 0),
        ("check -f bogus plain.qcow2", 1),
        ("check -f raw plain.qcow2", 63),
        ("check -q -f raw disk.raw", 63),
        ("check -r all disk.raw", 63),
        ("check -p plain.qcow2", 1),
        ("check plain.qcow2", 0),
    ],
)
def test_exit_codes(line: str, status: int, both: Both, monkeypatch: pytest.MonkeyPatch) -> None:
    theirs, ours = both(shlex.split(line), monkeypatch)
    assert (theirs.status, ours.status) == (status, status), (theirs.err, ours.err)
    if status:
        assert ours.err.startswith("qcow2crypt: ")
    both.compare_files()


def test_qcow1_has_no_checks(both: Both, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for folder in (both.theirs, both.ours):
        qcow = folder / "v1"
        qcow.write_bytes(
            b"QFI\xfb\0\0\0\1" + bytes(16) + entry(4096) + b"\x0c\x09\0\0" + bytes(500)
        )
    theirs, ours = both(["check", "v1"], monkeypatch)
    assert ours.status == theirs.status


def test_an_encrypted_image_needs_no_passphrase(encrypted: Path, run: Run) -> None:
    done = run("check", encrypted)
    assert (done.status, done.err) == (0, "")
    assert done.out.startswith("No errors were found on the image.\n")


REPAIR_ALL = (
    "qcow2crypt: warning: make a copy of the image, then repair it with 'qcow2crypt check -r all'"
)


def test_findings_are_lines_on_standard_error(tmp_path: Path, run: Run) -> None:
    path = tmp_path / "image"
    path.write_bytes(IMAGES["both"])
    done = run("check", path)
    assert done.status == 2
    assert done.err.splitlines() == [
        "Leaked cluster 20 refcount=1 reference=0",
        f"ERROR OFLAG_COPIED data cluster: l2_entry={SOUND.clusters[0]:x} refcount=1",
        REPAIR_ALL,
    ]
    assert run("check", "-q", path).err.count("qcow2crypt") == 0


def test_what_to_do_next(tmp_path: Path, run: Run) -> None:
    path = tmp_path / "image"
    path.write_bytes(IMAGES["leak"])
    assert run("check", path).err.endswith(
        "'qcow2crypt check -r leaks' gives the leaked space back\n"
    )
    assert "warning" not in run("check", "--output=json", path).err
    assert "warning" not in run("check", "-r", "leaks", path).err
    # An entry with reserved bits cannot be repaired.
    path.write_bytes(put(SOUND.data, SOUND.l2 + 8, entry(COPIED | 1 << 60 | SOUND.clusters[1])))
    assert "-r all" in run("check", "-r", "leaks", path).err
    assert "'qcow2crypt convert'" in run("check", "-r", "all", path).err
    path.write_bytes(bytes(4096))
    assert run("check", "-f", "raw", path).err.endswith("only qcow2 has tables\n")


def test_lines_end_somewhere(tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cmd_check, "_LINES_MAX", 1)
    path = tmp_path / "image"
    path.write_bytes(IMAGES["both"])
    done = run("check", path)
    assert done.err.splitlines()[1:2] == ["... and more; the numbers below count all"]
    assert "1 errors were found" in done.out


def test_an_image_in_use(tmp_path: Path, run: Run) -> None:
    path = tmp_path / "image"
    path.write_bytes(SOUND.data)
    with qcow2crypt.open(str(path), mode="r+"):
        done = run("check", path)
        assert done.status == 1
        assert "in use" in done.err
        assert run("check", "-U", path).status == 0
    with qcow2crypt.open(str(path)):
        assert run("check", path).status == 0
        assert run("check", "-r", "all", path).status == 1


def test_wrong_iv(encrypted: Path, key: Path, run: Run) -> None:
    words = ["check", "--wrong-iv", "--secret-file", key]
    done = run(*words, encrypted)
    assert done.status == 0
    assert done.out.splitlines()[-1].startswith("No sector looks as if")
    with qcow2crypt.open(str(encrypted), PASSPHRASE) as image:
        extent = next(each for each in image.own_extents() if each.host_offset is not None)
    assert extent.host_offset is not None
    at = extent.host_offset + 512
    zeros = SectorCipher.from_passphrase(PASSPHRASE).encrypt(bytes(512), SectorNumber(at // 512))
    encrypted.write_bytes(put(encrypted.read_bytes(), at, zeros))
    done = run(*words, encrypted)
    assert (done.status, done.err) == (0, "")
    guest = extent.guest_offset + 512
    assert done.out.splitlines()[-2:] == [
        "1 sectors look as if QEMU 2.7.0 had encrypted them wrongly:",
        f"  guest offset {guest:#x}, host offset {at:#x}",
    ]
    found = json.loads(run(*words, "--output=json", encrypted).out)
    jsonschema.validate(found, schema("check"))
    assert found["qcow2crypt"] == {"wrong-iv-suspects": [{"guest": guest, "host": at}]}


def test_wrong_iv_is_for_aes(tmp_path: Path, run: Run, encrypted: Path) -> None:
    path = tmp_path / "plain"
    path.write_bytes(SOUND.data)
    done = run("check", "--wrong-iv", path)
    assert done.status == 1
    assert "not encrypted with legacy AES" in done.err
    assert run("check", "--wrong-iv", encrypted).status == 1  # nobody gives the passphrase

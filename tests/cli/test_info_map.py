"""info and map: schemas, golden images, images that cannot be read, hostile names."""

from __future__ import annotations

import json
from pathlib import Path

import golden
import jsonschema
import pytest
from cli.commandline import Run
from cli.schemas import schema

import qcow2crypt
from qcow2crypt.cli.mapping import MapEntry, map_entries
from qcow2crypt.image.base import Extent, ExtentKind
from qcow2crypt.units import GuestOffset, HostOffset


@pytest.mark.parametrize("name", golden.NAMES)
def test_info_of_golden_images(name: str, run: Run) -> None:
    image = golden.load(name)
    done = run("info", "--output=json", image.path)
    assert (done.status, done.err) == (0, "")
    found = json.loads(done.out)
    jsonschema.validate(found, schema("info"))
    assert found["filename"] == str(image.path)
    reason = golden.UNREADABLE.get(name)
    assert found["qcow2crypt"]["readable"] is (reason is None)
    people = run("info", image.path)
    assert (people.status, people.err) == (0, "")
    assert f"image: {image.path}\n" in people.out
    if found.get("encrypted"):
        assert "\nencrypted: yes\n" in people.out
    if "aes" in name and name.endswith("qcow2") and "luks" not in name:
        assert "    encryption: AES-128-CBC, legacy: qemu-system refuses it" in people.out
    if reason is not None:
        line = next(line for line in people.out.splitlines() if "cannot be read yet" in line)
        assert reason in line


@pytest.mark.parametrize("name", golden.NAMES)
def test_map_of_golden_images(name: str, run: Run) -> None:
    image = golden.load(name)
    done = run("map", "--output=json", image.path)
    people = run("map", image.path)
    reason = golden.UNREADABLE.get(name)
    if reason is not None:
        assert (done.status, people.status) == (1, 1)
        assert reason in done.err
        return
    assert (done.status, done.err, people.status, people.err) == (0, "", 0, "")
    found = json.loads(done.out)
    jsonschema.validate(found, schema("map"))
    position = 0
    for entry in found:
        assert entry["start"] == position
        assert entry["length"] > 0
        assert "offset" not in entry or "aes" not in name or entry["depth"]
        position += entry["length"]
    assert position == image.size
    stored = sum(entry["length"] for entry in found if entry["data"])
    lines = [line.split(maxsplit=3) for line in people.out.splitlines()[1:]]
    assert sum(int(length, 16) for _, length, _, _ in lines) == stored
    for _, _, where, file in lines:
        assert file.endswith(("(encrypted)", "(compressed)", ".raw")) or "aes" not in name
        assert int(where, 16) > 0 or file.endswith(".raw")


def test_a_snapshot_is_listed(run: Run) -> None:
    out = run("info", golden.load("aes-c512-snapshot.qcow2").path).out.splitlines()
    place = out.index("Snapshot list:")
    assert out[place + 1].split() == ["ID", "TAG", "VM", "SIZE", "DATE", "VM", "CLOCK", "ICOUNT"]
    assert out[place + 2].split()[:4] == ["1", "snap1", "0", "B"]


def test_a_hostile_backing_name_reaches_no_terminal(tmp_path: Path, run: Run) -> None:
    image = golden.load("aes-c512-overlay.qcow2")
    data = bytearray(image.data)
    offset, length = int.from_bytes(data[8:16], "big"), int.from_bytes(data[16:20], "big")
    data[offset : offset + length] = b"\x1b[2J\r\n\x07aaa"[:length].ljust(length, b"\xff")
    path = tmp_path / "hostile.qcow2"
    path.write_bytes(data)
    for words in (["info"], ["map"], ["info", "--output=json"], ["info", "--backing-chain"]):
        done = run(*words, path)
        text = (done.out + done.err).replace("\n", "")
        assert text.isprintable(), words
    assert "\\x1b[2J" in run("info", path).out


def test_luks_without_its_header_extension(tmp_path: Path, run: Run) -> None:
    """qemu-img 7.2 crashes on such a file."""
    data = bytearray(golden.load("luks-aes128cbc-essiv.qcow2").data)
    place = data.index(bytes.fromhex("0537be77"))
    data[place : place + 4] = b"none"
    path = tmp_path / "broken.qcow2"
    path.write_bytes(data)
    done = run("info", path)
    assert done.status == 0
    assert "note: the header extension that points to the LUKS header is missing" in done.out


def test_a_chain_is_a_list(run: Run) -> None:
    alone = run("info", "--backing-chain", "--output=json", golden.load("aes-c512-v3.qcow2").path)
    assert len(json.loads(alone.out)) == 1
    path = golden.load("aes-c512-overlay.qcow2").path
    found = json.loads(run("info", "--backing-chain", "--output=json", path).out)
    assert [one["format"] for one in found] == ["qcow2", "raw"]
    for one in found:
        jsonschema.validate(one, schema("info"))
    people = run("info", "--backing-chain", path).out
    assert people.count("image: ") == 2
    assert "\n\nimage: " in people


def test_a_chain_follows_the_policy(run: Run) -> None:
    path = golden.load("aes-c512-overlay.qcow2").path
    done = run("info", "--backing-chain", "--external", "none", path)
    assert done.status == 1
    assert "--external any" in done.err
    assert run("info", "--external", "none", path).status == 0
    assert run("info", "--external", "some", path).status == 1


@pytest.mark.parametrize("options", ["", "-s 1M", "-l 0", "-s 3 -l 1"])
def test_the_map_of_an_empty_range(options: str, run: Run, tmp_path: Path) -> None:
    path = tmp_path / "empty"
    qcow2crypt.create(str(path), 0)
    found = json.loads(run("map", "--output=json", *options.split(), path).out)
    jsonschema.validate(found, schema("map"))
    assert [entry["length"] for entry in found] == [0]
    assert run("map", *options.split(), path).out.splitlines()[1:] == []


def extent(kind: ExtentKind, start: int, length: int, host: int | None = None) -> Extent:
    return Extent(kind, GuestOffset(start), length, None if host is None else HostOffset(host))


EXTENTS = [
    extent(ExtentKind.DATA, 0, 512, 8192),
    extent(ExtentKind.DATA, 512, 512, 8704),  # follows in the file
    extent(ExtentKind.DATA, 1024, 512, 4096),  # does not
    extent(ExtentKind.COMPRESSED, 1536, 512, 100),
    extent(ExtentKind.COMPRESSED, 2048, 512, 150),
    extent(ExtentKind.ZERO, 2560, 512),
    extent(ExtentKind.ZERO, 3072, 512, 9216),
    extent(ExtentKind.UNALLOCATED, 3584, 512),
    extent(ExtentKind.UNALLOCATED, 4096, 512),
]


@pytest.mark.parametrize(
    ("encrypted", "by_host_offset", "lengths"),
    [
        (False, False, [1024, 512, 1024, 512, 512, 1024]),
        (False, True, [1024, 512, 512, 512, 512, 512, 1024]),
        (True, False, [1536, 1024, 1024, 1024]),
        (True, True, [1024, 512, 512, 512, 512, 512, 1024]),
    ],
)
def test_neighbours_that_are_stored_alike_are_joined(
    encrypted: bool, by_host_offset: bool, lengths: list[int]
) -> None:
    entries: list[MapEntry] = list(
        map_entries(EXTENTS, encrypted=[encrypted], by_host_offset=by_host_offset)
    )
    assert [entry.length for entry in entries] == lengths
    position = 0
    for entry in entries:
        assert entry.start == position
        position += entry.length
        assert entry.raw_offset is None or not encrypted

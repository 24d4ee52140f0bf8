"""explain without QEMU: golden images, every kind of cluster, secrets, rounds, odd questions."""

from __future__ import annotations

import functools
import io
import re
import struct
from pathlib import Path
from typing import Any

import golden
import pytest
from support.explained import check_wording, explained

import qcow2crypt
from qcow2crypt.errors import (
    ArgumentError,
    MappingError,
    SnapshotNotFoundError,
    UnsupportedFeatureError,
)
from qcow2crypt.explaining.decryption import luks_iv
from qcow2crypt.explaining.regions import RegionKind
from qcow2crypt.explaining.wording import as_text
from qcow2crypt.testing.damage.tiny import put, tiny

ALONE = [name for name in golden.ALONE if ".qcow" in name]


AES = qcow2crypt.Qcow2Options(encryption="aes")
IMAGE = "aes-c512-v3.qcow2"


@functools.cache
def data_sector() -> int:
    """The second sector of IMAGE that has data, so not number 0."""
    image = golden.load(IMAGE)
    with qcow2crypt.open(image.path, secret=image.secret) as disk:
        data = [e for e in disk.extents() if e.kind.value == "data" and e.guest_offset]
        return data[0].guest_offset // 512


@pytest.mark.parametrize("name", ALONE)
def test_every_sector_is_as_it_is_read(name: str) -> None:
    image = golden.load(name)
    with qcow2crypt.open(image.path, secret=image.secret) as disk:
        step = max(1, disk.size // 512 // 40)
        for sector in range(0, disk.size // 512, step):
            found = explained(name, sector=sector)
            assert found.plaintext == disk.pread(512, sector * 512)
            assert found.byte == found.plaintext[0]
            (extent,) = disk.own_extents(sector * 512, 512)
            assert found.layers[0].kind == extent.kind.value
            assert found.layers[0].host_offset == extent.host_offset
            check_wording(found)


def test_a_chain() -> None:
    image = golden.load("aes-c512-overlay.qcow2")
    with qcow2crypt.open(image.path, secret=image.secret, external="any") as disk:
        seen = set()
        for sector in range(disk.size // 512):
            found = explained(image.name, sector=sector)
            seen.add((len(found.layers), found.layers[-1].kind))
            assert found.plaintext == disk.pread(512, sector * 512)
            assert len({step.position.sector for step in found.layers}) == 1
    assert (1, "data") in seen
    assert (2, "data") in seen


def test_the_iv_is_the_guest_sector() -> None:
    sector = data_sector()
    found = explained(IMAGE, sector=sector)
    assert found.iv is not None
    assert (found.iv.number, found.iv.unit) == (sector, "guest sector")
    assert found.iv.iv == sector.to_bytes(8, "little") + bytes(8)
    assert found.blocks[0].xor_with == found.iv.iv
    for before, block in zip(found.blocks, found.blocks[1:], strict=False):
        assert block.xor_with == before.ciphertext
    for block in found.blocks:
        mixed = bytes(a ^ b for a, b in zip(block.decrypted, block.xor_with, strict=True))
        assert mixed == block.plaintext


def test_bits_make_up_the_entry() -> None:
    for name in ALONE:
        for step in explained(name, offset=0, secret=None).layers:
            for entry in step.entries:
                if entry.table == "L2 subclusters":
                    continue
                for bits in entry.bits:
                    shift = 0 if bits.name == "host offset" else bits.low
                    width = (1 << bits.high + 1) - 1 & -(1 << bits.low)
                    if bits.name == "length":
                        assert bits.value <= width >> bits.low
                    else:
                        assert bits.value << shift == entry.raw & width
                covered = sum(bits.high - bits.low + 1 for bits in entry.bits)
                assert covered == 64


def test_bits_of_subclusters() -> None:
    name, kinds = "aes-c64k-v3-extl2.qcow2", set()
    for sector in range(0, golden.load(name).size // 512, 4):
        (step,) = explained(name, sector=sector).layers
        if len(step.entries) < 3:
            continue
        index = step.position.subcluster
        bits = {one.name: one.value for one in step.entries[2].bits}
        assert bits[f"allocated {index}"] == (step.kind == "data")
        assert bits[f"zero {index}"] == (step.kind == "zero")
        kinds.add(step.kind)
    assert {"data", "unallocated"} <= kinds


def test_without_a_passphrase() -> None:
    whole = explained(IMAGE, sector=data_sector())
    found = explained(IMAGE, sector=data_sector(), secret=None)
    assert (found.stored, found.iv, found.layers) == (whole.stored, whole.iv, whole.layers)
    assert (found.plaintext, found.byte, found.key, found.blocks) == (None, None, None, ())
    assert "--secret-file" in found.notes[-1]
    assert "the sector as it stands in the file" in as_text(found).lower()


def test_a_wrong_passphrase_gives_other_bytes() -> None:
    right, wrong = (explained(IMAGE, sector=data_sector(), secret=s) for s in (None, "wrong"))
    assert wrong.stored == right.stored
    assert wrong.plaintext is not None
    assert "a wrong one gives other" in wrong.notes[-1]


def test_luks_as_far_as_it_goes() -> None:
    found = explained("luks-aes128cbc-essiv.qcow2", sector=0)
    (step,) = found.layers
    assert step.encryption == "luks"
    assert step.host_offset is not None
    assert found.iv is not None
    assert found.iv.unit == "host sector"
    assert found.iv.number == step.host_offset // 512
    assert found.iv.generator.startswith("essiv")
    assert (found.iv.iv, found.plaintext) == (None, None)
    assert "does not decrypt" in " ".join(found.notes)
    with golden.load("luks-aes128cbc-essiv.qcow2").path.open("rb") as file:
        at = file.read().index(b"LUKS\xba\xbe")
    place = explained("luks-aes128cbc-essiv.qcow2", host_offset=at + 5).place
    assert place is not None
    assert place.region.kind is RegionKind.LUKS_HEADER
    assert luks_iv(0x1_0000_0002, "xts-plain64").iv == b"\2\0\0\0\1" + bytes(11)
    assert luks_iv(0x1_0000_0002, "cbc-plain").iv == b"\2" + bytes(15)
    assert luks_iv(5, "ecb").iv is None


def test_compressed_clusters_are_in_clear() -> None:
    image = golden.load("aes-c4k-compressed.qcow2")
    with qcow2crypt.open(image.path, secret=image.secret) as disk:
        extent = next(e for e in disk.extents() if e.kind.value == "compressed")
        found = explained(image.name, offset=extent.guest_offset + 700, secret=None)
        assert found.plaintext == disk.pread(512, extent.guest_offset + 512)
        assert found.compressed is not None
        assert found.compressed.host_offset == extent.host_offset
        assert found.compressed.skipped == 512
        assert "never encrypted" in found.layers[-1].why
        back = explained(image.name, host_offset=extent.host_offset + 3)
        assert back.place is not None
        assert back.place.region.kind is RegionKind.COMPRESSED
        assert back.plaintext == disk.pread(512, extent.guest_offset)


def test_preallocated_sectors_say_so() -> None:
    with qcow2crypt.open(golden.load("aes-c64k-v3-prealloc.qcow2").path, secret="x") as disk:
        (file,) = disk.host_files()
        empty = next(
            extent.guest_offset + at
            for extent in disk.extents()
            if extent.host_offset is not None
            for at in range(0, extent.length, 512)
            if not any(file.pread(512, extent.host_offset + at))
        )
    found = explained("aes-c64k-v3-prealloc.qcow2", offset=empty)
    assert any("preallocated" in note for note in found.notes)
    assert found.plaintext is not None
    assert any(found.plaintext)


def test_a_snapshot_has_tables_of_its_own() -> None:
    now = explained("aes-c512-snapshot.qcow2", offset=0)
    then = explained("aes-c512-snapshot.qcow2", offset=0, snapshot="1")
    assert now.layers[0].entries[0].host_offset != then.layers[0].entries[0].host_offset
    assert now.iv == then.iv
    with pytest.raises(SnapshotNotFoundError, match="has no internal snapshot 'none'"):
        explained("aes-c512-snapshot.qcow2", offset=0, snapshot="none")


def test_wrong_ivs_of_qemu_2_7_0(tmp_path: Path) -> None:
    path = tmp_path / "disk.qcow2"
    qcow2crypt.create(path, 1 << 20, options=AES, secret="pass")
    with qcow2crypt.open(path, "pass", "r+") as disk:
        disk.pwrite(b"x", 4096)
    host = qcow2crypt.explain(path, sector=20).layers[0].host_offset
    assert host is not None
    cipher = qcow2crypt.SectorCipher.from_passphrase("pass")
    with path.open("r+b") as file:
        file.seek(host)
        file.write(cipher.encrypt(bytes(512), host // 512))
    plain = qcow2crypt.explain(path, sector=20, secret="pass")
    right = qcow2crypt.explain(path, sector=20, secret="pass", wrong_iv="qemu-2.7.0")
    assert plain.plaintext != bytes(512)
    assert right.plaintext == bytes(512)
    assert right.iv is not None
    assert (right.iv.number, right.iv.unit) == (host // 512, "host sector")
    other = qcow2crypt.explain(path, sector=8, secret="pass", wrong_iv="qemu-2.7.0")
    assert other.iv is not None
    assert other.iv.number == 8


def test_a_raw_image(tmp_path: Path) -> None:
    path = tmp_path / "disk.raw"
    path.write_bytes(bytes(range(256)) * 3)
    found = qcow2crypt.explain(path, offset=600, format="raw")
    assert (found.byte, found.layers[0].host_offset) == (600 % 256, 600)
    back = qcow2crypt.explain(path, host_offset=600, format="raw")
    assert (back.byte, back.layers) == (found.byte, found.layers)
    check_wording(back)


@pytest.mark.parametrize(
    ("wanted", "says"),
    [
        ({}, "one of offset, sector and host_offset"),
        ({"offset": 1, "sector": 1}, "one of offset, sector and host_offset"),
        ({"offset": -1}, "offset -1 is not in 0 to"),
        ({"sector": 1 << 60}, "sector .* is not in 0 to"),
        ({"offset": 1 << 40}, "behind the end of the disk .* its last sector is 3"),
        ({"sector": 4}, "guest sector 4 is behind the end"),
        ({"host_offset": 1 << 40}, "is not inside"),
        ({"host_offset": 1, "snapshot": "1"}, "exclude each other"),
        ({"offset": 0, "steps": True}, "need show_key"),
    ],
)
def test_questions_that_cannot_be(wanted: dict[str, Any], says: str) -> None:
    with pytest.raises(ArgumentError, match=says):
        qcow2crypt.explain(io.BytesIO(tiny(3, 9).data), **wanted)


def test_damage_is_told_with_its_place() -> None:
    image = tiny(3, 10)
    data = put(image.data, image.l2, struct.pack(">Q", 0x200))
    with pytest.raises(MappingError, match="L2 entry is not valid") as caught:
        qcow2crypt.explain(io.BytesIO(data), offset=0)
    assert caught.value.offset == image.l2


def test_unknown_features_are_refused() -> None:
    data = bytearray(tiny(3, 9).data)
    data[79] |= 1 << 7
    with pytest.raises(UnsupportedFeatureError, match="unknown incompatible features"):
        qcow2crypt.explain(io.BytesIO(bytes(data)), offset=0)


def test_names_are_no_html(tmp_path: Path) -> None:
    path = tmp_path / "<script>&.raw"
    path.write_bytes(bytes(512))
    text = qcow2crypt.explain(path, offset=0, format="raw")._repr_html_()
    assert "<script>" not in text
    assert "&lt;script&gt;&amp;" in text


def test_the_examples_of_the_documents(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """They run, on the image that comes with the package."""
    root = Path(__file__).resolve().parents[2]
    section = (root / "docs" / "library.md").read_text("utf-8").split("## Explaining one byte")[1]
    examples = re.findall(
        r"^```python\n(.*?)^```$", section.split("\n## ")[0], re.MULTILINE | re.DOTALL
    )
    monkeypatch.chdir(Path(qcow2crypt.__file__).parent / "data")
    for example in examples:
        exec(example, {"qcow2crypt": qcow2crypt})  # noqa: S102 - our own document
    written = capsys.readouterr().out
    assert "8 guest sector 0800" in written
    assert "0x5000 8192 data ((None, 0),)" in written

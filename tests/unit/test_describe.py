"""What is told of an image without a passphrase, readable or not."""

from __future__ import annotations

import io
import json
import struct
from pathlib import Path
from typing import Any

import golden
import pytest

import qcow2crypt
from qcow2crypt.errors import ArgumentError, FormatError, HeaderError, SourceError
from qcow2crypt.image.qcow2 import extensions as ext
from qcow2crypt.testing.damage.tiny import entry, extension, put, put_fields, tiny
from qcow2crypt.testing.witness import Disk, QemuImg

V3 = tiny()
SNAPSHOT = golden.load("aes-c512-snapshot.qcow2").data
TABLE = int.from_bytes(SNAPSHOT[64:72], "big")


def describe(data: bytes, **arguments: Any) -> qcow2crypt.ImageInfo:
    return qcow2crypt.info(io.BytesIO(data), **arguments)


def qemu_like(data: bytes, qemu_img: QemuImg, tmp_path: Path, driver: str = "qcow2") -> None:
    """QEMU says the same of these bytes."""
    path = tmp_path / "image"
    path.write_bytes(data)
    ours = qcow2crypt.info(path, format=driver).as_dict()
    assert golden.info_differences(qemu_img.info(Disk(path, driver)), ours) == {}


def test_a_plain_image() -> None:
    info = describe(V3.data)
    assert (info.name, info.format, info.virtual_size) == ("<BytesIO>", "qcow2", 2048)
    assert (info.file_size, info.cluster_size, info.encryption) == (len(V3.data), 512, None)
    assert not info.dirty
    assert info.why_unreadable == ()
    assert info.findings == ()


def test_every_field_of_the_header_is_there() -> None:
    values = {"size": 2048, "l1_size": 1, "nb_snapshots": 0, "header_length": 112}
    header = describe(V3.data).details["header"]
    assert {name: header[name] for name in values} == values
    assert len(header) == 18


def test_extensions_are_listed_unknown_ones_too() -> None:
    pieces = extension(7, b"12345") + extension(ext.EXT_DATA_FILE, b"d")
    assert describe(put(V3.data, 112, pieces)).details["extensions"] == [
        {"type": "0x00000007", "name": "unknown", "offset": 112, "length": 5},
        {"type": "0x44415441", "name": "external data file name", "offset": 128, "length": 1},
    ]


@pytest.mark.parametrize("name", golden.NAMES)
def test_it_is_json(name: str) -> None:
    told = qcow2crypt.info(golden.load(name).path).as_dict()
    assert json.loads(json.dumps(told)) == told


def test_names_that_are_no_text_are_json_too() -> None:
    data = put(
        put_fields(V3.data, {"backing_file_offset": 200, "backing_file_size": 3}), 200, b"\xff\x1ba"
    )
    told = json.loads(json.dumps(describe(data).as_dict()))
    assert told["backing-filename"] == "\udcff\x1ba"


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"crypt_method": 1}, "legacy AES encryption is broken by design"),
        ({"incompatible_features": 1}, "the dirty bit is set"),
        ({"incompatible_features": 2}, "the corrupt bit is set"),
        ({"crypt_method": 2}, "points to the LUKS header is missing"),
        (
            {"nb_snapshots": 1, "snapshots_offset": 2**20},
            "a table runs out of its bounds: snapshot 0",
        ),
    ],
)
def test_findings(fields: dict[str, int], says: str) -> None:
    (finding,) = describe(put_fields(V3.data, fields)).findings
    assert says in finding


def test_luks_that_is_none_is_a_finding() -> None:
    pointer = extension(ext.EXT_CRYPTO_HEADER, struct.pack(">QQ", 512, 592))
    info = describe(put(put_fields(V3.data, {"crypt_method": 2}), 112, pointer))
    assert info.encryption == "luks"
    assert "the LUKS header is not valid: LUKS magic at host offset 0x200" in info.findings[0]


@pytest.mark.parametrize(
    ("at", "damage"),
    [
        (0, b"X"),
        (6, b"\0\2"),
        (8, b"\xff" * 32),
        (40, b"\xff" * 32),
        (104, b"\xff" * 8),
        (208, b"\xff" * 48),
    ],
)
def test_any_luks_header_is_described_or_found_wrong(at: int, damage: bytes) -> None:
    image = golden.load("luks-aes128cbc-essiv.qcow2")
    where = image.manifest["luks_header_offset"]
    info = describe(put(image.data, where + at, damage))
    assert info.why_unreadable == ("LUKS encryption",)
    assert bool(info.findings) is (at < 8)
    json.dumps(info.as_dict())


def test_a_luks_file() -> None:
    image = golden.load("standalone-aes128cbc-essiv.luks")
    info = qcow2crypt.info(image.path)
    assert (info.format, info.encryption, info.virtual_size) == ("luks", "luks", image.size)
    assert info.specific["cipher-alg"] == "aes-128"
    assert info.specific["master-key-iters"] == image.manifest["luks"]["master_key_iterations"]
    assert [slot["active"] for slot in info.specific["slots"]] == [True] + [False] * 7


@pytest.mark.parametrize("length", [600, 528384, 528900, 530000])
def test_a_luks_file_that_is_cut(length: int) -> None:
    data = golden.load("standalone-aes128cbc-essiv.luks").data[:length]
    size = describe(data).virtual_size
    assert size == max(0, -(-length // 512) * 512 - 528384)


def test_a_luks_file_that_ends_in_its_header() -> None:
    with pytest.raises(
        HeaderError, match=r"the LUKS header is not valid: LUKS size .*is 591 bytes"
    ):
        describe(golden.load("standalone-aes128cbc-essiv.luks").data[:591])


class TestSnapshots:
    def test_the_snapshot_that_is_there(self) -> None:
        (snapshot,) = describe(SNAPSHOT).snapshots
        assert (snapshot.id, snapshot.name) == ("1", "snap1")
        assert (snapshot.vm_state_size, snapshot.disk_size, snapshot.icount) == (0, 16384, 0)
        assert snapshot.date_seconds == int.from_bytes(SNAPSHOT[TABLE + 16 : TABLE + 20], "big")

    @pytest.mark.parametrize(
        ("at", "new"),
        [
            (0, b"\xff" * 8),  # offset of its L1 table
            (8, b"\xff" * 4),
            (12, b"\0\0"),  # no id
            (14, b"\0\0"),  # no name
            (16, b"\xff" * 8),  # date
            (24, b"\xff" * 8),  # clock
            (32, b"\0\0\1\0"),  # size of the state, before there was a larger field for it
            (36, b"\0\0\0\x00"),  # no extra data
            (36, b"\0\0\0\x08"),
            (36, b"\0\0\0\x10"),
            (36, b"\0\0\0\x17"),
            (40, entry(2**40)),  # size of the state
            (48, entry(511)),  # size of the disk
            (56, b"\xff" * 8),  # instructions: not counted
            (56, entry(5)),
        ],
    )
    def test_qemu_reads_the_same(
        self, at: int, new: bytes, qemu_img: QemuImg, tmp_path: Path
    ) -> None:
        qemu_like(put(SNAPSHOT, TABLE + at, new), qemu_img, tmp_path)

    def test_instructions_that_were_not_counted(self) -> None:
        (snapshot,) = describe(put(SNAPSHOT, TABLE + 56, b"\xff" * 8)).snapshots
        assert snapshot.icount is None

    def test_old_entries_without_extra_data(self) -> None:
        old = put(put(SNAPSHOT, TABLE + 32, b"\0\0\0\x07\0\0\0\0"), TABLE + 40, b"1snap")
        (snapshot,) = describe(old).snapshots
        assert (snapshot.vm_state_size, snapshot.disk_size) == (7, 16384)
        assert (snapshot.id, snapshot.icount) == ("1", None)

    def test_too_much_extra_data(self) -> None:
        info = describe(put(SNAPSHOT, TABLE + 36, b"\0\0\x04\x01"))
        assert info.snapshots == ()
        assert "snapshot 0: extra data size at host offset 0x1424 is 1025" in info.findings[-1]

    def test_a_name_that_is_no_text(self) -> None:
        (snapshot,) = describe(put(SNAPSHOT, TABLE + 65, b"\xff\0nap1")).snapshots
        assert snapshot.name == "\\xff"

    def test_more_snapshots_than_the_file_holds(self) -> None:
        info = describe(put_fields(SNAPSHOT, {"nb_snapshots": 65536}))
        assert info.snapshots == ()
        assert "a table runs out of its bounds" in info.findings[-1]


class TestBitmaps:
    def image(self, **directory: Any) -> bytes:
        """An image with two bitmaps in its directory."""
        given = {"kind": 1, "granularity": 16, "extra": b"", "size": 64, **directory}
        extra = given["extra"]
        head = struct.pack(">QIIBBHI", 0, 0, 3, given["kind"], given["granularity"], 4, len(extra))
        first = (head + extra + b"dirt").ljust(-(-(28 + len(extra)) // 8) * 8, b"\0")
        second = struct.pack(">QIIBBHI", 0, 0, 2, 1, 9, 4, 0) + b"more" + bytes(4)
        pointer = struct.pack(">IIQQ", 2, 0, given["size"], 512 * 7)
        data = put(V3.data, 112, extension(ext.EXT_BITMAPS, pointer))
        return put(put_fields(data, {"autoclear_features": 1}), 512 * 7, first + second)

    def test_two(self) -> None:
        assert describe(self.image()).specific["bitmaps"] == [
            {"name": "dirt", "granularity": 65536, "flags": ["in-use", "auto"]},
            {"name": "more", "granularity": 512, "flags": ["auto"]},
        ]

    def test_extra_data_is_skipped(self) -> None:
        bitmaps = describe(self.image(extra=b"12345678", size=72)).specific["bitmaps"]
        assert [bitmap["name"] for bitmap in bitmaps] == ["dirt", "more"]

    @pytest.mark.parametrize(
        ("directory", "says"),
        [
            ({"kind": 2}, "bitmap 0: type and granularity bits at host offset 0xe10 is 2 and 16"),
            ({"granularity": 64}, "is 1 and 64; allowed: 1 and 0 to 63"),
            ({"size": 59}, "a table runs out of its bounds: bitmap 1"),
            ({"size": 23}, "a table runs out of its bounds: bitmap 0"),
        ],
    )
    def test_a_broken_directory_is_a_finding(self, directory: dict[str, int], says: str) -> None:
        info = describe(self.image(**directory))
        assert says in info.findings[-1]
        assert info.why_unreadable == ()

    def test_bitmaps_out_of_date_are_not_told(self) -> None:
        assert (
            "bitmaps" not in describe(put_fields(self.image(), {"autoclear_features": 0})).specific
        )

    def test_qemu_tells_the_same(self, qemu_img: QemuImg, tmp_path: Path) -> None:
        path = tmp_path / "image"
        qemu_img.create(Disk(path), 1 << 20)
        qemu_img.run("bitmap", "--add", path, "one")
        qemu_img.run("bitmap", "--add", "--disable", "-g", "4k", path, "zwei ß")
        info = qcow2crypt.info(path)
        assert len(info.specific["bitmaps"]) == 2
        assert golden.info_differences(qemu_img.info(Disk(path)), info.as_dict()) == {}


class TestQcow1:
    DATA = golden.load("qcow1-aes.qcow").data

    @pytest.mark.parametrize(
        ("at", "new", "field"),
        [
            (0, b"X", "magic"),
            (4, b"\0\0\0\2", "version"),
            (16, b"", "file size"),
            (24, entry(0), "size"),
            (24, entry(1), "size"),
            (24, b"\xff" * 8, "size"),
            (32, b"\x08", "cluster_bits"),
            (32, b"\x11", "cluster_bits"),
            (33, b"\x05", "l2_bits"),
            (33, b"\x0e", "l2_bits"),
            (36, b"\0\0\0\2", "crypt_method"),
            (8, entry(48) + b"\0\0\4\0", "backing_file_size"),
        ],
    )
    def test_bad_headers(self, at: int, new: bytes, field: str) -> None:
        data = put(self.DATA, at, new) if new else self.DATA[:47]
        with pytest.raises(HeaderError) as caught:
            describe(data, format="qcow")
        assert caught.value.field == field

    @pytest.mark.parametrize(
        ("at", "new"),
        [
            (8, entry(48) + b"\0\0\3\xff"),  # a name of nothing but NULs
            (8, entry(48) + b"\0\0\0\0"),
            (8, entry(2**40) + b"\0\0\0\5"),
            (16, b"\xff" * 4),
            (20, b"\xff" * 4),
            (24, entry(513)),
            (24, entry(2**45)),
        ],
    )
    def test_odd_headers_are_read_as_qemu_does(
        self, at: int, new: bytes, qemu_img: QemuImg, tmp_path: Path
    ) -> None:
        qemu_like(put(self.DATA, at, new), qemu_img, tmp_path, "qcow")


class TestBackingNames:
    """The full name is where the file is looked for: beside the image."""

    @pytest.mark.parametrize(
        "name",
        ["base.raw", "/abs/base.raw", "../up/base", "with space", "größe", "a:b", "nbd://h/x"],
    )
    def test_qemu_looks_in_the_same_place(
        self, name: str, qemu_img: QemuImg, tmp_path: Path
    ) -> None:
        stored = name.encode()
        fields = {"backing_file_offset": 200, "backing_file_size": len(stored)}
        data = put(put_fields(V3.data, fields), 200, stored)
        path = tmp_path / "image"
        path.write_bytes(data)
        ours = qcow2crypt.info(path).as_dict()
        theirs = qemu_img.info(Disk(path))
        assert ours["backing-filename"] == theirs["backing-filename"] == name
        if "full-backing-filename" in ours:
            assert theirs["full-backing-filename"] == ours["full-backing-filename"]


def test_other_formats_are_named_and_not_read() -> None:
    info = describe(b"vhdxfile" + bytes(1016))
    assert (info.format, info.why_unreadable) == ("vhdx", ("images of format vhdx",))
    assert info.virtual_size is None


def test_raw() -> None:
    info = describe(b"x" * 1000, format="raw")
    assert (info.format, info.virtual_size, info.file_size) == ("raw", 1024, 1000)
    assert info.why_unreadable == ()
    assert "format-specific" not in info.as_dict()


def test_an_image_describes_itself_as_the_function_does(tmp_path: Path) -> None:
    path = tmp_path / "image"
    path.write_bytes(V3.data)
    with qcow2crypt.open(path) as image:
        assert image.info() == qcow2crypt.info(path)


@pytest.mark.parametrize("name", ["vhdx", "nonsense"])
def test_a_format_that_cannot_be_described(name: str) -> None:
    with pytest.raises(ArgumentError, match=f"'{name}' is not one of qcow2, qcow, luks, raw"):
        describe(V3.data, format=name)


def test_what_cannot_be_opened(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"No such file"):
        qcow2crypt.info(tmp_path / "missing")
    with pytest.raises(FormatError, match=r"this is not a qcow2 image"):
        describe(b"", format="qcow2")


def test_no_file_stays_open(tmp_path: Path) -> None:
    path = tmp_path / "image"
    for data in (V3.data, b"QFI\xfb\0\0\0\x09"):
        path.write_bytes(data)
        before = len(list(Path("/proc/self/fd").iterdir()))
        for _ in range(5):
            try:
                qcow2crypt.info(path)
            except HeaderError:
                assert data is not V3.data
        assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_a_damaged_table_does_not_get_in_the_way() -> None:
    damaged = put(V3.data, V3.l1, entry(2**64 - 1))
    assert describe(damaged).why_unreadable == ()


def test_a_file_that_is_cut_short_is_a_finding(tmp_path: Path) -> None:
    path = tmp_path / "disk"
    disk = tmp_path / "raw"
    disk.write_bytes(b"x" * (1 << 20))
    qcow2crypt.convert(disk, path, source_format="raw", target_format="qcow2")
    assert qcow2crypt.info(path).findings == ()
    whole = path.read_bytes()
    for length in (len(whole) - 65536, 5 * 65536, 4 * 65536, 3 * 65536):
        path.write_bytes(whole[:length])
        (finding,) = qcow2crypt.info(path).findings
        assert finding.startswith("the file is cut short: its tables use it up to host offset")


def test_raw_zeros_that_read_as_noise_are_a_finding() -> None:
    image = golden.load("aes-c64k-v3-prealloc.qcow2")
    assert "raw zeros" in qcow2crypt.info(image.path).findings[-1]
    for name in golden.ENCRYPTED:
        noise = any(
            "raw zeros" in text for text in qcow2crypt.info(golden.load(name).path).findings
        )
        assert noise is ("prealloc" in name), name

"""check and its repair without QEMU: findings, hostile tables, crashes, dirty images."""

from __future__ import annotations

import io
import random
import struct
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO, Literal, cast

import pytest

import qcow2crypt
from qcow2crypt.crypt.cipher import SectorCipher
from qcow2crypt.errors import ExternalReferenceError, ReadOnlyError, UnsupportedFeatureError
from qcow2crypt.image.hostfile import HostFile
from qcow2crypt.image.qcow2.check.rebuild import repair_dirty
from qcow2crypt.image.qcow2.header import INCOMPAT_CORRUPT, INCOMPAT_DIRTY
from qcow2crypt.image.qcow2.reader import Qcow2Image
from qcow2crypt.tasks.checking import CheckResult, SuspectSector, check, wrong_iv_suspects
from qcow2crypt.testing.damage.tiny import COPIED, entry, put, put_fields, tiny
from qcow2crypt.units import GuestOffset, HostOffset, SectorNumber

SOUND = tiny(3, 9)
REFCOUNTS = 1024  # of 16 bits, in the third cluster


def refcount(data: bytes, cluster: int, count: int) -> bytes:
    return put(data, REFCOUNTS + 2 * cluster, struct.pack(">H", count))


def checked(data: bytes, repair: Literal["leaks", "all"] | None = None) -> CheckResult:
    return check(io.BytesIO(data), repair=repair)


def lines(result: CheckResult) -> list[str]:
    return [str(finding) for finding in result.findings]


def test_a_sound_image() -> None:
    result = checked(SOUND.data)
    assert result.status == 0
    assert result.as_dict() == {
        "filename": "<BytesIO>", "format": "qcow2", "check-errors": 0, "image-end-offset": 3584,
        "total-clusters": 4, "allocated-clusters": 2,
    }  # fmt: skip
    assert result.findings == ()


DAMAGE = {
    "a leak": (
        refcount(SOUND.data, 20, 1) + bytes(8192),
        3,
        ["Leaked cluster 20 refcount=1 reference=0"],
    ),
    "counted too seldom": (
        put(SOUND.data, SOUND.l2 + 16, entry(SOUND.clusters[0])),
        2,
        [
            "ERROR cluster 5 refcount=1 reference=2",
            f"ERROR OFLAG_COPIED data cluster: l2_entry={SOUND.clusters[0]:x} refcount=1",
        ],
    ),
    "not counted": (
        refcount(SOUND.data, 6, 0),
        2,
        [
            "ERROR cluster 6 refcount=0 reference=1",
            f"ERROR OFLAG_COPIED data cluster: l2_entry={COPIED | 3072:x} refcount=0",
        ],
    ),
    "a flag that is missing": (
        put(SOUND.data, SOUND.l2, entry(SOUND.clusters[0])),
        2,
        [f"ERROR OFLAG_COPIED data cluster: l2_entry={SOUND.clusters[0]:x} refcount=1"],
    ),
    "a flag of the L1 table": (
        put(SOUND.data, SOUND.l1, entry(SOUND.l2)),
        2,
        [f"ERROR OFLAG_COPIED L2 cluster: l1_index=0 l1_entry={SOUND.l2:x} refcount=1"],
    ),
    "no refcount table": (
        put_fields(SOUND.data, {"refcount_table_clusters": 0}),
        2,
        [
            *[f"ERROR cluster {number} refcount=0 reference=1" for number in (0, 3, 4, 5, 6)],
            f"ERROR OFLAG_COPIED L2 cluster: l1_index=0 l1_entry={COPIED | SOUND.l2:x} refcount=0",
            *[
                f"ERROR OFLAG_COPIED data cluster: l2_entry={COPIED | host:x} refcount=0"
                for host in SOUND.clusters
            ],
        ],
    ),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_findings_and_repair(name: str) -> None:
    data, status, expected = DAMAGE[name]
    result = checked(data)
    assert (result.status, lines(result)) == (status, expected)
    stream = io.BytesIO(data)
    repaired = check(stream, repair="all")
    assert repaired.status == 0
    assert repaired.leaks_fixed + repaired.corruptions_fixed > 0
    assert checked(stream.getvalue()).findings == ()
    assert start_of_disk(stream.getvalue()) == SOUND.content[:1024]


def start_of_disk(data: bytes) -> bytes:
    """The two clusters with data, by the tables and whatever the refcounts say."""
    if not any(data[56:60]):
        data = put_fields(data, {"refcount_table_clusters": 1})  # or it would not be opened
    with qcow2crypt.open(io.BytesIO(data)) as image:
        return image.pread(1024, 0)


def test_leaks_alone() -> None:
    data = refcount(put(SOUND.data, SOUND.l2, entry(SOUND.clusters[0])), 6, 3)
    stream = io.BytesIO(data)
    result = check(stream, repair="leaks")
    assert (result.leaks_fixed, result.corruptions_fixed, result.status) == (1, 1, 0)
    # What must be written anew is not done by halves.
    broken = refcount(refcount(SOUND.data, 6, 0), 5, 7)
    stream = io.BytesIO(broken)
    result = check(stream, repair="leaks")
    assert result.status == 1
    assert "repair all" in (result.failure or "")
    assert stream.getvalue() == broken


def test_a_table_that_is_data_too_is_left_alone() -> None:
    """As where l1_size is too large and L1 entries name data.  QEMU 7.2 makes 0xb1 0x31 there."""
    disk = b"\xb1" * 512
    data = put(SOUND.data, SOUND.clusters[0], disk)
    data = put(data, SOUND.l1 + 8, entry(COPIED | SOUND.clusters[0]))
    stream = io.BytesIO(put_fields(data, {"l1_size": 2}))
    left = check(stream, repair="all")
    assert left.status == 2
    # The entry in the real tables is repaired: nobody writes in place what is named twice.
    assert left.corruptions_fixed == 3
    assert any("OFLAG_COPIED" in str(one) and "b1b1" in str(one) for one in left.findings)
    assert start_of_disk(stream.getvalue())[:512] == disk
    assert checked(stream.getvalue()).corruptions == left.corruptions


@pytest.mark.parametrize("offset", [1024, SOUND.clusters[0]])
def test_a_refcount_block_that_is_something_else_too(offset: int) -> None:
    """Refcounts of one bit cannot say 2, so no number tells; the block must not be written."""
    used = 0x7F if offset == 1024 else 0x7F | 1 << 2
    data = put(SOUND.data, offset, bytes((used, 0, 1 << 4)).ljust(512, b"\0"))
    data = put_fields(data.ljust(21 * 512, b"\0"), {"refcount_order": 0})
    data = put(data, 512, entry(offset))
    if offset == 1024:
        data = put(data, SOUND.l2 + 16, entry(COPIED | 1024))
    before = checked(data)
    assert before.leaks >= 1
    stream = io.BytesIO(data)
    result = check(stream, repair="leaks")
    assert result.status == 1
    assert "repair all" in (result.failure or "")
    assert stream.getvalue() == data
    check(stream, repair="all")
    with qcow2crypt.open(io.BytesIO(data)) as old, qcow2crypt.open(stream) as new:
        assert new.pread(2048, 0) == old.pread(2048, 0)


@pytest.mark.parametrize("bit", [INCOMPAT_CORRUPT, INCOMPAT_DIRTY])
def test_the_bits_go_when_all_is_well(bit: int) -> None:
    data = put_fields(refcount(SOUND.data, 6, 9), {"incompatible_features": bit})
    stream = io.BytesIO(data)
    assert check(stream, repair="all").status == 0
    assert stream.getvalue()[72:80] == bytes(8)
    # An entry across clusters cannot be repaired: the bit stays.
    worse = put(data, SOUND.l2 + 8, entry(COPIED | SOUND.clusters[1] + 512 - 256 & -256))
    worse = put(worse, SOUND.l1, entry(COPIED | 1 << 56 | SOUND.l2))
    stream = io.BytesIO(worse)
    assert check(stream, repair="all").status == 2
    assert stream.getvalue()[72:80] == bit.to_bytes(8, "big")


def test_other_formats() -> None:
    with pytest.raises(UnsupportedFeatureError):
        check(io.BytesIO(bytes(1024)))
    with pytest.raises(UnsupportedFeatureError):
        check(io.BytesIO(SOUND.data), format="raw")
    with pytest.raises(UnsupportedFeatureError, match="bit 60"):
        checked(put_fields(SOUND.data, {"incompatible_features": 1 << 60}))


def test_data_is_not_freed_for_a_wrong_bit() -> None:
    stream = io.BytesIO(put_fields(SOUND.data, {"incompatible_features": 4}))
    before = stream.getvalue()
    with pytest.raises(ExternalReferenceError, match="does not name it"):
        check(stream, repair="all")
    assert stream.getvalue() == before


def test_a_dirty_image_is_repaired_before_it_is_written_to() -> None:
    dirty = put_fields(refcount(SOUND.data, 6, 0), {"incompatible_features": INCOMPAT_DIRTY})
    stream = io.BytesIO(dirty)
    with qcow2crypt.open(stream, mode="r+") as image:
        image.pwrite(b"x" * 600, 1200)
    assert checked(stream.getvalue()).status == 0
    with qcow2crypt.open(io.BytesIO(stream.getvalue())) as image:
        assert image.pread(1200, 0) == SOUND.content[:1200]
        assert image.pread(600, 1200) == b"x" * 600
    hopeless = put(dirty, SOUND.l1, entry(COPIED | 1 << 56 | SOUND.l2))
    with pytest.raises(ReadOnlyError, match="not all of it can be repaired"):
        repair_dirty(HostFile(io.BytesIO(hopeless), writable=True))


class Recorder(io.BytesIO):
    """Remembers what is written, and counts what is read."""

    def __init__(self, data: bytes) -> None:
        super().__init__(data)
        self.log: list[tuple[int, bytes] | None] = []
        self.bytes_read = 0

    def write(self, data: object) -> int:
        piece = bytes(data)  # type: ignore[call-overload]
        self.log.append((self.tell(), piece))
        return super().write(piece)

    def flush(self) -> None:
        self.log.append(None)

    def readinto(self, buffer: object) -> int:
        count = super().readinto(buffer)  # type: ignore[arg-type]
        self.bytes_read += count
        return count


def crashes(data: bytes, log: list[tuple[int, bytes] | None], seed: int) -> list[bytes]:
    """The file after every write, and with the writes since the last barrier in another order."""
    draw = random.Random(seed)
    states = []
    settled, open_writes = data, list[tuple[int, bytes]]()
    for item in log:
        if item is None:
            for offset, piece in open_writes:
                settled = put(settled, offset, piece)
            open_writes = []
            continue
        open_writes.append(item)
        for _ in range(3):
            state = settled
            for offset, piece in draw.sample(open_writes, draw.randint(1, len(open_writes))):
                state = put(state, offset, piece)
            states.append(state)
    return states


@pytest.mark.parametrize("name", DAMAGE)
def test_a_repair_that_is_cut_short_does_no_harm(name: str) -> None:
    data = DAMAGE[name][0]
    before = checked(data)
    recorder = Recorder(data)
    check(cast("BinaryIO", recorder), repair="all")
    for state in crashes(data, recorder.log, 7):
        after = checked(state)
        assert after.check_errors == 0
        # A flag that was cleared and is not set again yet counts as one, and is harmless.
        harmful = [each for each in lines(after) if "refcount=1" not in each]
        assert len(harmful) <= len(lines(before))
        assert start_of_disk(state) == SOUND.content[:1024]
        again = io.BytesIO(state)
        assert check(again, repair="all").status == 0


def hostile_images() -> dict[str, bytes]:
    """Small files whose tables claim to be large, or go round in circles."""
    size = 1 << 16
    big = tiny(3, 16).data
    l1 = 8 * size
    fields = {"l1_size": 1 << 22, "l1_table_offset": l1}
    snapshots = b"".join(
        struct.pack(">QIHHIIQII", l1 + number % 8 * size, 1 << 22, 0, 0, 0, 0, 0, 0, 16) + bytes(16)
        for number in range(5000)
    )
    return {
        "every L1 entry names the L1 table": put_fields(
            put(big, l1, entry(COPIED | l1) * (8 * size // 8)), fields
        ),
        "every L1 entry names one L2 table that names itself": put_fields(
            put(put(big, l1, entry(4 * size) * (8 * size // 8)), 4 * size, entry(4 * size) * 8192),
            fields,
        ),
        "L1 of 32 MiB past the end": put_fields(big, {**fields, "l1_table_offset": 1 << 62}),
        "L1 entries far outside": put_fields(
            put(big, l1, b"".join(entry(n << 40) for n in range(1 << 16))), fields
        ),
        "a refcount table that is its own block": put(big, size, entry(size) * 8192),
        "refcount blocks at 2**63": put(big, size, entry(1 << 63) * 8192),
        "a refcount table of 8 MiB": put_fields(big, {"refcount_table_clusters": 128}),
        "a disk of 2**63 bytes": put_fields(big, {"size": 1 << 40, "l1_size": 1 << 22}),
        "many snapshots with one large L1 table": put_fields(
            put(put(big, l1, entry(4 * size) * 65536), 20 * size, snapshots),
            {**fields, "nb_snapshots": 5000, "snapshots_offset": 20 * size},
        ),
        "L2 tables at every sector": put_fields(
            put(big, l1, b"".join(entry(n << 9) for n in range(1, 8192))), fields
        ),
        "65536 snapshots past the end": put_fields(
            big, {"nb_snapshots": 65536, "snapshots_offset": 1 << 62}
        ),
    }


@pytest.mark.parametrize("name", hostile_images())
def test_hostile_tables_cost_no_more_than_the_file_is_long(name: str) -> None:
    data = hostile_images()[name]
    recorder = Recorder(data)
    result = check(cast("BinaryIO", recorder))
    assert result.status in (0, 1, 2, 3)
    assert recorder.bytes_read < 16 * len(data) + (48 << 20)
    assert len(result.findings) <= 1000
    repaired = Recorder(data)
    check(cast("BinaryIO", repaired), repair="all")
    assert len(repaired.getvalue()) < 2 * len(data) + (64 << 20)


def test_wrong_iv_suspects(tmp_path: Path) -> None:
    key = b"hunter2"
    path = tmp_path / "image.qcow2"
    options = qcow2crypt.Qcow2Options(cluster_size=4096, encryption="aes")
    source = io.BytesIO(random.Random(0).randbytes(1 << 14))
    qcow2crypt.convert(
        source, str(path), source_format="raw", target_format="qcow2", options=options,
        target_secret=key,
    )  # fmt: skip
    data = path.read_bytes()
    with qcow2crypt.open(io.BytesIO(data), key) as image:
        assert isinstance(image, Qcow2Image)
        assert list(wrong_iv_suspects(image)) == []
        host = next(iter(image.own_extents())).host_offset
    assert host is not None
    at = host + 3 * 512
    zeros = SectorCipher.from_passphrase(key).encrypt(bytes(512), SectorNumber(at // 512))
    with qcow2crypt.open(io.BytesIO(put(data, at, zeros)), key) as image:
        assert isinstance(image, Qcow2Image)
        found = list(wrong_iv_suspects(image))
    assert found == [SuspectSector(GuestOffset(3 * 512), HostOffset(at))]


def test_results_compare_by_value() -> None:
    result = checked(SOUND.data)
    assert result == checked(SOUND.data)
    assert replace(result, leaks=1).status == 3

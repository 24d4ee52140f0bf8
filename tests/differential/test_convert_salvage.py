"""``convert --salvage`` of damaged images, and ``-C``, by qemu-img and by us.

The disks must be the same, and where requests begin alike the files.  What each program says of a
loss is in its own words; we say it once for a range, qemu-img for every sector.
"""

from __future__ import annotations

import random
import shlex
import struct
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.differential import Case, NewCase, many

from qcow2crypt.testing.witness import Disk

CLUSTER = 65536
OFFSET = 0x00FF_FFFF_FFFF_FE00
Damage = Callable[[bytearray, int, list[int]], None]


def _guest() -> bytes:
    """Clusters of text, of noise (which stay as they are with -c), and of zeros."""
    noise = random.Random(7)
    words = [b"hello world " * 6000, noise.randbytes(CLUSTER), bytes(CLUSTER)]
    return b"".join(words[n % 3][:CLUSTER] for n in range(18)) + b"tail" * 300


def _l2(data: bytes) -> tuple[int, list[int]]:
    """Where the only L2 table lies, and its entries."""
    (l1,) = struct.unpack_from(">Q", data, 40)
    place = struct.unpack_from(">Q", data, l1)[0] & OFFSET
    return place, list(struct.unpack_from(">8192Q", data, place))


def _broken_stream(data: bytearray, _place: int, entries: list[int]) -> None:
    for index in (0, 3, 4, 9):
        if entries[index] >> 62 & 1:
            at = entries[index] & ((1 << 54) - 1)
            data[at : at + 20] = b"\xff" * 20


def _unaligned_entry(data: bytearray, place: int, entries: list[int]) -> None:
    for index in (1, 16):
        struct.pack_into(">Q", data, place + 8 * index, entries[index] & ~(1 << 62) | 512)


def _unaligned_table(data: bytearray, place: int, _entries: list[int]) -> None:
    (l1,) = struct.unpack_from(">Q", data, 40)
    struct.pack_into(">Q", data, l1, 1 << 63 | (place + 512))


def _cut_short(data: bytearray, _place: int, _entries: list[int]) -> None:
    """No error: what is not there of the file reads as zeros."""
    del data[(len(data) - 150_000) // 512 * 512 :]


DAMAGES: dict[str, tuple[str, Damage, bool]] = {
    "stream": ("-c", _broken_stream, True),
    "entry": ("", _unaligned_entry, True),
    "entry among compressed": ("-c", _unaligned_entry, True),
    "table": ("", _unaligned_table, True),
    "cut": ("", _cut_short, False),
}


def _damaged(case: Case, words: str, damage: Damage) -> None:
    Path("guest").write_bytes(_guest())
    case.theirs("convert", *shlex.split(words), "-f", "raw", "-O", "qcow2", "guest", "source")
    data = bytearray(Path("source").read_bytes())
    damage(data, *_l2(bytes(data)))
    Path("source").write_bytes(data)


@pytest.mark.parametrize("words", ["-O raw", "-O qcow2", "-O qcow2 -c", "-O qcow2 -B base -F raw"])
@pytest.mark.parametrize("name", DAMAGES)
def test_what_can_be_read_is_saved(
    new_case: NewCase, monkeypatch: pytest.MonkeyPatch, name: str, words: str
) -> None:
    source_words, damage, loses = DAMAGES[name]
    with new_case() as case:
        monkeypatch.chdir(case.folder)
        _damaged(case, source_words, damage)
        Path("base").write_bytes(bytes(len(_guest())))
        line = [*("-f", "qcow2"), *shlex.split(words), "source"]
        for run in (case.theirs, case.ours):
            assert run("convert", *line, "without", check=False).status == loses
            Path("without").unlink(missing_ok=True)
        theirs, ours = (case.folder / who for who in ("theirs", "ours"))
        case.theirs("convert", "--salvage", *line, theirs)
        said = case.ours("convert", "--salvage", *line, ours).stderr
        assert ("cannot be read and are zeros" in said) == loses
        assert case.ours("convert", "-q", "--salvage", *line, ours).stderr == ""
        driver = "raw" if words == "-O raw" else "qcow2"
        assert case.qemu.compare(Disk(theirs, driver), Disk(ours, driver))
        found = case.guest_by_them(Disk(ours, driver))
        wanted = _guest().ljust(len(found), b"\0")
        assert loses == (found != wanted) or name == "cut"
        for at in range(0, len(found), 512):
            assert found[at : at + 512] in (wanted[at : at + 512], bytes(512))
        if driver == "raw" or (name == "stream" and "-B" not in words):
            case.same_files(theirs, ours)


@many
@given(data=st.data())
def test_random_damage(new_case: NewCase, data: st.DataObject) -> None:
    """Both save the same sectors, whatever entries and compressed bytes are changed to."""
    words = data.draw(st.sampled_from(["", "-c"]))
    noise = random.Random(data.draw(st.integers(0, 1 << 16)))

    def damage(content: bytearray, place: int, entries: list[int]) -> None:
        for _ in range(noise.randrange(1, 5)):
            index = noise.randrange(18)
            entry = entries[index]
            if entry >> 62 & 1 and noise.random() < 0.6:
                at = (entry & ((1 << 54) - 1)) + noise.randrange(100)
                content[at] ^= 1 << noise.randrange(8)
            elif not entry >> 62 & 1:
                struct.pack_into(
                    ">Q", content, place + 8 * index, entry | 1 << noise.randrange(9, 16)
                )

    with new_case() as case:
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(case.folder)
            _damaged(case, words, damage)
            for run, name in ((case.theirs, "theirs"), (case.ours, "ours")):
                run("convert", "--salvage", "-f", "qcow2", "-O", "raw", "source", name)
        case.same_files(case.folder / "theirs", case.folder / "ours")


def test_the_target_itself_must_be_sound(
    new_case: NewCase, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With -n what lies behind a small source is the target's own, and an error there is one."""
    with new_case() as case:
        monkeypatch.chdir(case.folder)
        _damaged(case, "", _unaligned_entry)
        Path("source").rename("target")
        Path("small").write_bytes(b"s" * CLUSTER)
        before = Path("target").read_bytes()
        words = ["convert", "--salvage", "-n", "-f", "raw", "-O", "qcow2", "small", "target"]
        done = case.ours(*words, check=False)
        assert done.status == 1
        assert Path("target").read_bytes() == before


COPYING = {
    "-C -O qcow2 source target": None,
    "-C -O raw source target": None,
    "-C --bitmaps -O qcow2 source target": None,
    "-C -n -O raw source there": None,
    "-C -c -O qcow2 source target": "-C and -c are not supported at the same time",
    "-C -S 4k -O qcow2 source target": "-C and -S are not supported at the same time",
    "-C -S 0 -O qcow2 source target": "-C and -S are not supported at the same time",
    "-C --salvage -O raw source target": "-C and --salvage are not supported at the same time",
}


@pytest.mark.parametrize("words", COPYING)
def test_copy_offloading(new_case: NewCase, monkeypatch: pytest.MonkeyPatch, words: str) -> None:
    """The same disk, and the same refusals."""
    says = COPYING[words]
    with new_case() as case:
        for run, name in ((case.theirs, "theirs"), (case.ours, "ours")):
            folder = case.folder / name
            folder.mkdir()
            monkeypatch.chdir(folder)
            Path("guest").write_bytes(_guest())
            case.theirs(*["convert", "-S", "0", "-f", "raw", "-O", "qcow2", "guest", "source"])
            case.theirs(*["create", "-q", "-f", "raw", "there", "2M"])
            done = run("convert", *words.split(), check=False)
            assert done.status == (0 if says is None else 1), done.stderr
        if says is not None:
            assert says in done.stderr
            assert not Path("target").exists()
            return
        target = words.rsplit(maxsplit=1)[-1]
        driver = "qcow2" if "-O qcow2" in words else "raw"
        disks = [Disk(case.folder / name / target, driver) for name in ("theirs", "ours")]
        assert case.qemu.compare(*disks)
        if driver == "qcow2":
            case.nothing_to_find(disks[1])

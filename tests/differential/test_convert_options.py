"""Targets with every option of qcow2: the same bytes as qemu-img's where there is one way.

Encrypted and preallocated, or with a backing file, there is more than one: then the guest disk
must be the same and ``qemu-img check`` must find nothing.
"""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.differential import PASSPHRASE, Case, NewCase, Target, many, padded

from qcow2crypt.testing.witness import Disk


def mixed(seed: int, pieces: int, cluster_size: int) -> bytes:
    """Zeros, noise, text and repetitions in pieces around the size of a cluster."""
    noise = random.Random(seed)
    parts = []
    for _ in range(pieces):
        length = noise.choice([512, 4096, cluster_size, noise.randrange(1, 100) * 512])
        parts.append(
            noise.choice(
                [
                    bytes(length),
                    noise.randbytes(length),
                    bytes([noise.randrange(256)]) * length,
                    (noise.randbytes(50) * (length // 50 + 1))[:length],
                    bytes(noise.choices(b"abcdefgh \n", k=length)),
                ]
            )
        )
    return b"".join(parts)


def both_ways(
    case: Case, monkeypatch: pytest.MonkeyPatch, guest: bytes, target: Target, *words: str
) -> Disk:
    """Convert in two folders; gives our image, which holds ``guest`` and is sound."""
    for run, name in ((case.theirs, "theirs"), (case.ours, "ours")):
        folder = case.folder / name
        folder.mkdir()
        (folder / "source").write_bytes(guest)
        monkeypatch.chdir(folder)
        run("convert", *words, "-f", "raw", "-O", "qcow2", *target.words, "source", "image")
    disk = target.disk(Path("image"))
    case.nothing_to_find(disk)
    # No maps: QEMU looks for holes of the file under preallocated clusters.
    case.same_guest(case.guest_by_them(disk), padded(guest), "qemu-img reads ours", disk.path)
    case.same_guest(case.guest_by_us(disk), padded(guest), "we read ours", disk.path)
    case.same_info(disk)
    return disk


def same_files(case: Case) -> None:
    for name in sorted(path.name for path in (case.folder / "theirs").iterdir()):
        case.same_files(case.folder / "theirs" / name, case.folder / "ours" / name)


@pytest.mark.parametrize("passphrase", [None, PASSPHRASE], ids=["plain", "aes"])
@pytest.mark.parametrize(
    ("cluster_size", "more"),
    [
        *((size, f"refcount_bits={1 << order}") for size in (512, 65536) for order in range(7)),
        *((size, "extended_l2=on") for size in (16384, 65536, 2 << 20)),
        *((size, "data_file=data") for size in (512, 65536)),
        (65536, "data_file=data,extended_l2=on"),
    ],
)
def test_same_files(
    new_case: NewCase,
    monkeypatch: pytest.MonkeyPatch,
    cluster_size: int,
    more: str,
    passphrase: str | None,
) -> None:
    with new_case() as case:
        guest = mixed(1, 60, cluster_size)
        both_ways(case, monkeypatch, guest, Target("qcow2", cluster_size, 3, passphrase, more))
        same_files(case)


@pytest.mark.parametrize("mode", ["metadata", "falloc", "full"])
@pytest.mark.parametrize(
    ("version", "cluster_size", "more"),
    [
        (2, 4096, ""),
        (3, 512, ""),
        (3, 65536, ""),
        (3, 65536, ",extended_l2=on"),
        (3, 65536, ",data_file=data"),
        (3, 65536, ",data_file=data,data_file_raw=on"),
    ],
)
def test_same_files_with_preallocation(
    new_case: NewCase,
    monkeypatch: pytest.MonkeyPatch,
    version: int,
    cluster_size: int,
    more: str,
    mode: str,
) -> None:
    with new_case() as case:
        target = Target("qcow2", cluster_size, version, None, f"preallocation={mode}{more}")
        both_ways(case, monkeypatch, mixed(2, 60, cluster_size), target)
        same_files(case)


@pytest.mark.parametrize(
    ("version", "cluster_size", "more"),
    [
        *((3, 65536, f"preallocation={mode}") for mode in ("metadata", "falloc", "full")),
        (3, 512, "preallocation=metadata"),
        (2, 512, "preallocation=full"),
        (2, 65536, "preallocation=full"),
        (3, 65536, "preallocation=metadata,extended_l2=on"),
        (3, 65536, "preallocation=metadata,data_file=data"),
        (3, 65536, "data_file=data,data_file_raw=on"),
    ],
)
def test_encrypted_and_preallocated(
    new_case: NewCase,
    monkeypatch: pytest.MonkeyPatch,
    version: int,
    cluster_size: int,
    more: str,
) -> None:
    with new_case() as case:
        target = Target("qcow2", cluster_size, version, PASSPHRASE, more)
        both_ways(case, monkeypatch, mixed(3, 60, cluster_size), target)


@pytest.mark.slow
@pytest.mark.parametrize("sparse_size", ["4k", "0"])
@pytest.mark.parametrize(
    ("version", "cluster_size", "more"),
    [
        *((3, size, "refcount_bits=16") for size in (512, 1024, 4096, 65536, 2 << 20)),
        (2, 65536, "refcount_bits=16"),
        (3, 512, "refcount_bits=64"),
        (3, 65536, "refcount_bits=1"),
        (3, 4096, "refcount_bits=2"),
        (3, 65536, "refcount_bits=4"),
        (3, 65536, "extended_l2=on"),
        (3, 4096, "compression_type=zstd"),
        (3, 65536, "compression_type=zstd"),
    ],
)
def test_compressed(
    new_case: NewCase,
    monkeypatch: pytest.MonkeyPatch,
    version: int,
    cluster_size: int,
    more: str,
    sparse_size: str,
) -> None:
    """Where the clusters lie is the same; their bytes are, too, where zlib and zstd agree."""
    if "zstd" in more:
        pytest.importorskip("backports.zstd" if not _has_zstd() else "compression.zstd")
    with new_case() as case:
        guest = mixed(4, 150, cluster_size)
        target = Target("qcow2", cluster_size, version, None, more)
        both_ways(case, monkeypatch, guest, target, "-c", "-S", sparse_size)
        theirs, ours = (case.folder / name / "image" for name in ("theirs", "ours"))
        # Another version of zlib or zstd than qemu-img's may pack a cluster a little differently.
        assert abs(theirs.stat().st_size - ours.stat().st_size) <= theirs.stat().st_size // 100


def _has_zstd() -> bool:
    import sys

    return sys.version_info >= (3, 14)


@pytest.mark.parametrize(
    ("driver", "more", "says"),
    [
        ("qcow2", "encrypt.format=aes,encrypt.key-secret=s", "at the same time"),
        ("qcow2", "preallocation=metadata", "at the same time"),
        ("qcow2", "data_file=data", "at the same time"),
        ("raw", "", "cannot hold compressed clusters"),
    ],
)
def test_what_cannot_be_compressed(
    new_case: NewCase, monkeypatch: pytest.MonkeyPatch, driver: str, more: str, says: str
) -> None:
    with new_case() as case:
        source = case.raw(b"data" * 1000)
        monkeypatch.chdir(case.folder)
        words = ["convert", "-c", "--object", "secret,id=s,data=x", "-f", "raw", "-O", driver]
        words += ["-o", more] if more else []
        ours = case.ours(*words, source.path, "ours", check=False)
        assert not Path("ours").exists()
        assert not Path("data").exists()
        theirs = case.theirs(*words, source.path, "theirs", check=False)
        assert (theirs.status, ours.status) == (1, 1)
        assert says in ours.stderr


@many
@given(st.integers(0, 2**32), st.data())
def test_any_options(new_case: NewCase, seed: int, data: st.DataObject) -> None:
    cluster_size = 1 << data.draw(st.integers(9, 17), label="cluster bits")
    options = [f"refcount_bits={1 << data.draw(st.integers(0, 6), label='refcount order')}"]
    if cluster_size >= 16384 and data.draw(st.booleans(), label="extended"):
        options.append("extended_l2=on")
    words = ["-S", data.draw(st.sampled_from(["0", "512", "4k", "64k"]), label="sparse")]
    kind = data.draw(st.sampled_from(["aes", "plain", "metadata", "falloc", "-c"]), label="kind")
    if kind in ("metadata", "falloc"):
        options.append(f"preallocation={kind}")
    if kind == "-c":
        words.append("-c")
    passphrase = PASSPHRASE if kind == "aes" else None
    target = Target("qcow2", cluster_size, 3, passphrase, ",".join(options))
    with new_case() as case, pytest.MonkeyPatch.context() as patch:
        guest = mixed(seed, data.draw(st.integers(0, 40), label="pieces"), cluster_size)
        both_ways(case, patch, guest, target, *words)
        if kind != "-c":
            same_files(case)

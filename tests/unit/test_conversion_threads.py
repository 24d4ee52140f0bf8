"""The result of a conversion is the same for any number of threads."""

from __future__ import annotations

import hashlib
import random
from pathlib import Path

import pytest

import qcow2crypt
from qcow2crypt import Qcow2Options
from qcow2crypt.errors import ArgumentError

MIB = 1 << 20
OPTIONS = [
    Qcow2Options(encryption="aes"),
    Qcow2Options(encryption="aes", cluster_size=512),
    Qcow2Options(cluster_size=4096),
    Qcow2Options(cluster_size=2 << 20, encryption="aes"),
    Qcow2Options(cluster_size=32768, extended_l2=True, encryption="aes"),
    Qcow2Options(cluster_size=65536, encryption="aes", preallocation="full", version=2),
]


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """13 MiB and a sector: data and zeros in pieces of all sizes."""
    rng = random.Random(5)
    content = bytearray()
    while len(content) < 13 * MIB:
        data = rng.randbytes(512 * rng.choice([1, 7, 8, 64, 700, 5000]))
        content += data + bytes(512 * rng.choice([0, 1, 8, 40, 300, 4096]))
    path = tmp_path_factory.mktemp("threads") / "source.raw"
    path.write_bytes(content[: 13 * MIB] + b"x" * 512)
    return path


@pytest.mark.parametrize("options", OPTIONS, ids=repr)
def test_files_are_equal(options: Qcow2Options, source: Path, tmp_path: Path) -> None:
    secret = "key" if options.encryption else None
    hashes = set()
    for threads in (1, 2, 3, 4, 16):
        target, back = tmp_path / f"{threads}.qcow2", tmp_path / f"{threads}.raw"
        qcow2crypt.convert(
            source,
            target,
            source_format="raw",
            target_format="qcow2",
            target_secret=secret,
            options=options,
            threads=threads,
        )
        hashes.add(hashlib.sha256(target.read_bytes()).hexdigest())
        qcow2crypt.convert(target, back, secret=secret, threads=threads)
        assert back.read_bytes() == source.read_bytes()
    assert len(hashes) == 1


@pytest.mark.parametrize("threads", [0, 17])
def test_too_few_and_too_many(threads: int, source: Path, tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match="1 to 16"):
        qcow2crypt.convert(source, tmp_path / "x", source_format="raw", threads=threads)

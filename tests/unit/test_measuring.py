"""How large would it be?  Against arithmetic by hand, and against the files that are made."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from support.kinds import DISK, MIB

import qcow2crypt
from qcow2crypt import Measurement, Qcow2Options
from qcow2crypt.errors import ArgumentError


def test_raw() -> None:
    assert qcow2crypt.measure(size=1000) == Measurement(1024, 1024)
    assert qcow2crypt.measure("raw", size=0) == Measurement(0, 0)


def test_by_hand() -> None:
    # Header, refcount table, refcount block, L1, 1 L2 for 512 MiB; 16 clusters of data.
    cluster = 65536
    assert qcow2crypt.measure("qcow2", size=MIB) == Measurement(5 * cluster, 21 * cluster)


@pytest.mark.parametrize("cluster_size", [512, 4096, 65536, 2 * MIB])
@pytest.mark.parametrize("encryption", [None, "aes"])
def test_a_full_copy_is_as_large_as_measured(
    cluster_size: int, encryption: str | None, tmp_path: Path
) -> None:
    options = Qcow2Options(cluster_size=cluster_size, encryption="aes" if encryption else None)
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_bytes(b"\1" * 6 * MIB)
    qcow2crypt.convert(
        source,
        target,
        source_format="raw",
        target_format="qcow2",
        options=options,
        target_secret="x" if encryption else None,
    )
    with qcow2crypt.open(source, format="raw") as image:
        found = qcow2crypt.measure("qcow2", source=image, options=options)
    assert found.required == found.fully_allocated == target.stat().st_size


def test_only_touched_clusters_count(tmp_path: Path) -> None:
    target = tmp_path / "image"
    qcow2crypt.convert(
        io.BytesIO(DISK), target, source_format="raw", target_format="qcow2",
        options=Qcow2Options(cluster_size=4096),
    )  # fmt: skip
    with qcow2crypt.open(target) as image:
        sizes = {
            cluster_size: qcow2crypt.measure(
                "qcow2", source=image, options=Qcow2Options(cluster_size=cluster_size)
            )
            for cluster_size in (4096, 65536)
        }
    empty = qcow2crypt.measure("qcow2", size=len(DISK), options=Qcow2Options(cluster_size=4096))
    stored = sum(DISK[at : at + 4096] != bytes(4096) for at in range(0, len(DISK), 4096))
    assert sizes[4096].required == empty.required + stored * 4096
    assert sizes[4096].bitmaps == 0
    assert sizes[65536].required > sizes[4096].required


def test_options_that_change_it() -> None:
    size = 100 * MIB
    plain = qcow2crypt.measure("qcow2", size=size)
    assert qcow2crypt.measure("qcow2", size=size, options=Qcow2Options(encryption="aes")) == plain
    full = qcow2crypt.measure("qcow2", size=size, options=Qcow2Options(preallocation="full"))
    assert full == Measurement(plain.fully_allocated, plain.fully_allocated)
    small = Qcow2Options(cluster_size=512, refcount_bits=64)
    more = Qcow2Options(cluster_size=512)
    assert (
        qcow2crypt.measure("qcow2", size=size, options=small).required
        > qcow2crypt.measure("qcow2", size=size, options=more).required
    )


@pytest.mark.parametrize(
    ("words", "match"),
    [
        ({}, "either a size or a source"),
        ({"size": -1}, "image size"),
        ({"size": 2**63}, "image size"),
        ({"target_format": "vmdk", "size": 1}, "raw, qcow2"),
        ({"size": 1, "options": Qcow2Options()}, "target format is raw"),
        ({"target_format": "qcow2", "size": 1 << 60}, "larger clusters"),
    ],
)
def test_refused(words: dict[str, object], match: str) -> None:
    with pytest.raises(ArgumentError, match=match):
        qcow2crypt.measure(**words)  # type: ignore[arg-type]

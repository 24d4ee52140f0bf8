"""raw to qcow2 in every cluster size, version and encryption: same command, same bytes.

Three directions each time: qemu-img writes and we read, we write and qemu-img reads and checks,
and both write the same file.
"""

from __future__ import annotations

import pytest
from oracles.qemu_img import Disk
from support.differential import PASSPHRASE, SECTOR, Case, NewCase, Target
from support.differential_content import LAYOUTS, content

CLUSTER_SIZES = [1 << bits for bits in range(9, 22)]


def sizes_of(layout: str, cluster_size: int) -> int:
    """A disk of some clusters and an odd rest: not whole clusters, not even whole sectors."""
    clusters = max(4, min(300, (1 << 19) // cluster_size))
    odd = {"full": 0, "clusters": cluster_size // 2, "zeros": 511}.get(layout, 1234)
    return clusters * cluster_size + odd


def padded(data: bytes) -> bytes:
    """The guest disk for a raw file: filled up to a whole sector."""
    return data + bytes(-len(data) % SECTOR)


def three_directions(case: Case, source: Disk, guest: bytes, target: Target, *more: str) -> None:
    """Convert by both and hold everything against everything."""
    theirs, ours = case.convert(source, target, *more)
    case.same_guest(case.guest_by_us(theirs), guest, "qemu-img wrote, we read", theirs.path)
    case.same_guest(case.guest_by_them(ours), guest, "we wrote, qemu-img read", ours.path)
    if target.driver == "qcow2":
        case.nothing_to_find(ours)
    case.same_files(theirs.path, ours.path)


@pytest.mark.parametrize("passphrase", [None, PASSPHRASE], ids=["plain", "aes"])
@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize("cluster_size", CLUSTER_SIZES)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_raw_to_qcow2(
    new_case: NewCase, layout: str, cluster_size: int, version: int, passphrase: str | None
) -> None:
    with new_case() as case:
        guest = content(layout, sizes_of(layout, cluster_size), cluster_size, cluster_size)
        source = Disk(case.file("source", guest), "raw")
        target = Target("qcow2", cluster_size, version, passphrase)
        three_directions(case, source, padded(guest), target)

"""raw to qcow2 in every cluster size, version and encryption: same command, same bytes.

Three directions each time: qemu-img writes and we read, we write and qemu-img reads and checks,
and both write the same file.
"""

from __future__ import annotations

import pytest
from support.differential import CLUSTER_SIZES, PASSPHRASE, NewCase, Target, padded
from support.differential_content import LAYOUTS, content
from support.differential_directions import three_directions

ODD_SIZES = [0, 1, 511, 512, 513, 4095, 4097, 65535, 65536, 65537, 100_000]


def size_of(layout: str, cluster_size: int) -> int:
    """A disk of some clusters and an odd rest: not whole clusters, seldom whole sectors."""
    clusters = max(4, min(300, (1 << 19) // cluster_size))
    odd = {"full": 0, "clusters": cluster_size // 2, "zeros": 511}.get(layout, 1234)
    return clusters * cluster_size + odd


@pytest.mark.slow
@pytest.mark.parametrize("passphrase", [None, PASSPHRASE], ids=["plain", "aes"])
@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize("cluster_size", CLUSTER_SIZES)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_raw_to_qcow2(
    new_case: NewCase, layout: str, cluster_size: int, version: int, passphrase: str | None
) -> None:
    with new_case() as case:
        guest = content(layout, size_of(layout, cluster_size), cluster_size, cluster_size)
        target = Target("qcow2", cluster_size, version, passphrase)
        three_directions(case, case.raw(guest), padded(guest), target)


@pytest.mark.parametrize("size", ODD_SIZES)
@pytest.mark.parametrize(
    "target",
    [
        Target("raw"),
        Target(cluster_size=512, version=2),
        Target(cluster_size=512, passphrase=PASSPHRASE),
        Target(cluster_size=4096, passphrase=PASSPHRASE),
        Target(passphrase=PASSPHRASE),
        Target(cluster_size=2 << 20),
    ],
    ids=lambda target: f"{target.driver}-{target.cluster_size}",
)
def test_odd_sizes(new_case: NewCase, size: int, target: Target) -> None:
    with new_case() as case:
        guest = content("tiny", size, target.cluster_size)
        three_directions(case, case.raw(guest), padded(guest), target)


@pytest.mark.parametrize(
    "more", ["lazy_refcounts=on", "compression_type=zstd", "compression_type=zlib,refcount_bits=16"]
)
@pytest.mark.parametrize("cluster_size", [512, 4096, 65536])
def test_options_that_show_in_the_header(new_case: NewCase, more: str, cluster_size: int) -> None:
    with new_case() as case:
        guest = content("aligned", 300_000, cluster_size)
        target = Target(cluster_size=cluster_size, passphrase=PASSPHRASE, more=more)
        three_directions(case, case.raw(guest), padded(guest), target)


def test_as_a_program(new_case: NewCase) -> None:
    """The other tests call ``main`` in their own process; this one runs ``python -m``."""
    with new_case() as case:
        case.by_subprocess = True
        guest = content("unaligned", 300_000, 4096)
        target = Target(cluster_size=4096, passphrase=PASSPHRASE)
        theirs, _ = three_directions(case, case.raw(guest), padded(guest), target)
        case.both_read_the_same(theirs)

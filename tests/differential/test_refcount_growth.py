"""Files that outgrow their refcount table: it moves, and the place where it was is used again.

A table of one cluster counts 8 MiB of file with clusters of 512 bytes (64 blocks of 256
clusters), 64 MiB with 1024.  The sizes here are just beyond the first and the second move.
"""

from __future__ import annotations

import pytest
from support.differential import EXHAUSTIVE, PASSPHRASE, NewCase, Target, padded
from support.differential_content import content, data_bytes
from support.differential_directions import three_directions

MIB = 1 << 20
MOVES = {
    "512: before the first": (512, 7.5),
    "512: the first": (512, 8.2),
    "512: the second": (512, 16.6),
    "512: the third": (512, 26),
    "1024: the first": (1024, 65),
}
LONG = {
    "512: many": (512, 200),
    "1024: the second": (1024, 140),
    "2048: before the first": (2048, 500),
    "2048: the first": (2048, 520),
    "64k: never": (65536, 200),
}
SIZES = MOVES | LONG if EXHAUSTIVE else MOVES


@pytest.mark.slow
@pytest.mark.parametrize("passphrase", [None, PASSPHRASE], ids=["plain", "aes"])
@pytest.mark.parametrize(("cluster_size", "mebibytes"), SIZES.values(), ids=SIZES)
def test_full_disks(
    new_case: NewCase, cluster_size: int, mebibytes: float, passphrase: str | None
) -> None:
    with new_case() as case:
        guest = data_bytes(int(mebibytes * MIB), 1)
        target = Target(cluster_size=cluster_size, passphrase=passphrase)
        _, ours = three_directions(case, case.raw(guest), padded(guest), target)
        moved = int.from_bytes(ours.path.read_bytes()[56:60], "big") > 1
        assert moved == (mebibytes * MIB > 8 * MIB * (cluster_size // 512) ** 3)


@pytest.mark.parametrize("passphrase", [None, PASSPHRASE], ids=["plain", "aes"])
def test_a_table_of_which_a_part_is_used_again(new_case: NewCase, passphrase: str | None) -> None:
    """The second table is left for a third; one of its clusters is taken, the other stays."""
    with new_case() as case:
        guest = content("unaligned", 9 * MIB + 31 * 333_333, 512, 31)
        target = Target(cluster_size=512, passphrase=passphrase)
        three_directions(case, case.raw(guest), padded(guest), target)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(200 if EXHAUSTIVE else 2))
@pytest.mark.parametrize("layout", ["unaligned", "tiny", "borders"])
def test_disks_with_zeros(new_case: NewCase, layout: str, seed: int) -> None:
    """Short runs: the borders of blocks fall inside and between requests."""
    with new_case() as case:
        size = 9 * MIB + seed * 333_333 % (20 * MIB)
        guest = content(layout, size, 512, seed)
        target = Target(cluster_size=512, version=2 + seed % 2, passphrase=PASSPHRASE)
        three_directions(case, case.raw(guest), padded(guest), target)

"""How long to measure, and on what."""

from __future__ import annotations

import pytest

from qcow2crypt.bench.settings import FULL, MIB, QUICK, USUAL, Settings, fitted, room_needed

ALL = pytest.mark.parametrize("settings", [QUICK, USUAL, FULL], ids=lambda one: one.name)


@ALL
def test_every_run_goes_from_the_smallest_clusters_to_the_largest(settings: Settings) -> None:
    assert (settings.cluster_sizes[0], settings.cluster_sizes[-1]) == (512, 2 << 20)
    assert 65536 in settings.off_sizes
    assert set(settings.off_sizes) <= set(settings.cluster_sizes)
    assert all(settings.disk_size % size == 0 for size in settings.request_sizes)


def test_longer_runs_measure_more() -> None:
    assert set(QUICK.cluster_sizes) < set(USUAL.cluster_sizes) < set(FULL.cluster_sizes)
    assert QUICK.seconds < 20 <= USUAL.seconds < FULL.seconds


@pytest.mark.parametrize("speed", [1.0, 1e6, 30e6, 1e9])
def test_a_slow_engine_gets_a_small_disk(speed: float) -> None:
    found = fitted(USUAL, speed)
    assert MIB <= found.disk_size <= USUAL.disk_size
    assert found.disk_size == MIB or found.disk_size / speed <= 0.4
    assert found.cluster_sizes == USUAL.cluster_sizes
    assert 20 <= found.requests <= USUAL.requests
    assert found.requests == 20 or found.requests * 4096 / speed <= 0.1


@ALL
def test_the_room_is_that_of_all_files(settings: Settings) -> None:
    images = 2 * len(settings.cluster_sizes) + 1
    assert room_needed(settings) > (images + 1) * settings.disk_size

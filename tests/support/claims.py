"""The claims on the clusters of a file, held against the references that a check counts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from qcow2crypt.explaining.filemap import file_map
from qcow2crypt.explaining.regions import RegionKind
from qcow2crypt.image.chain import Layer, open_files
from qcow2crypt.image.hostfile import Source
from qcow2crypt.image.names import LayerOptions
from qcow2crypt.image.qcow2.check.census import Census
from qcow2crypt.image.qcow2.check.findings import Findings, silent
from qcow2crypt.image.qcow2.structure import Structure


@contextmanager
def opened(source: Source) -> Iterator[Layer]:
    """The first layer of an image, without those under it."""
    files = open_files(source, options=LayerOptions(no_backing=True), external="any")
    try:
        yield files.layers[0]
    finally:
        files.close()


def check_claims(source: Source) -> None:
    """Every cluster of a sound qcow2 image has as many claims as references."""
    with opened(source) as layer:
        assert isinstance(layer.structure, Structure)
        findings = Findings(silent)
        census = Census(layer.file, layer.structure, findings)
        census.take()
        found = file_map(layer.file, layer.structure)
    assert found.complete
    assert (findings.corruptions, findings.errors) == (0, 0)
    bits = layer.structure.header.cluster_bits
    counted: Counter[int] = Counter()
    for claim in {claim for region in found.regions for claim in region.claims}:
        # Of the header cluster there are many, and one for each entry of the snapshot table.
        if claim.host_offset >> bits and claim.kind is not RegionKind.SNAPSHOT_TABLE:
            last = min(claim.end, found.file_size) - 1 >> bits
            counted.update(range(claim.host_offset >> bits, last + 1))
    assert counted == {
        cluster: census.counts[cluster]
        for cluster in census.counts.used()
        if cluster and cluster not in census.snapshot_table
    }

"""What this package does with images, in this process: conversions and random requests.

Time runs from before an image is opened to after it is closed for a conversion, and over the
requests alone for random ones.  Before these all places are read once, and before writes one
place is written, so that tables are in memory.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import qcow2crypt
from qcow2crypt.bench.disks import ENCRYPTIONS, Disks, options, secret
from qcow2crypt.bench.settings import Settings
from qcow2crypt.bench.subjects import (
    FROM_RAW,
    OURS,
    TO_RAW,
    Encryption,
    Instructions,
    Subject,
    Work,
)
from qcow2crypt.errors import BenchError, Qcow2CryptError
from qcow2crypt.units import SECTOR_SIZE

USUAL_CLUSTER = 65536


def conversions(
    disks: Disks, settings: Settings, engine: str | None, instructions: Instructions, twin: bool
) -> Iterator[Subject]:
    """Conversions in both directions.  ``twin``: the same again without AES instructions."""
    for cluster_size in sizes(settings, twin=twin):
        for encryption in encryptions(twin=twin):
            for what in (FROM_RAW, TO_RAW):
                work = Work(
                    "conversion", OURS, what, encryption, instructions, disks.size, cluster_size
                )
                image = disks.image(cluster_size, encryption)
                yield _conversion(disks, work, disks.raw, image, engine)


def start(disks: Disks, instructions: Instructions) -> Iterator[Subject]:
    """The conversion of one sector: what every conversion costs, however small."""
    for encryption in ENCRYPTIONS:
        work = Work("start", OURS, FROM_RAW, encryption, instructions, SECTOR_SIZE, USUAL_CLUSTER)
        yield _conversion(disks, work, disks.sector, disks.sector, None)._replace(check=None)


def requests(
    disks: Disks, settings: Settings, engine: str | None, instructions: Instructions, twin: bool
) -> Iterator[Subject]:
    """Random reads, and writes over data that is there."""
    for cluster_size in sizes(settings, twin=twin):
        for encryption in encryptions(twin=twin):
            image = disks.image(cluster_size, encryption)
            for size in settings.request_sizes:
                places = disks.places(size, settings.requests)
                for what in ("read", "write"):
                    work = Work(
                        "requests", OURS, what, encryption, instructions, size, cluster_size
                    )
                    yield _random(work, image, places, engine)


def sizes(settings: Settings, *, twin: bool) -> tuple[int, ...]:
    """The cluster sizes to measure."""
    return settings.off_sizes if twin else settings.cluster_sizes


def encryptions(*, twin: bool) -> tuple[Encryption, ...]:
    """Plain images know no AES instructions."""
    return ("aes",) if twin else ENCRYPTIONS


def _conversion(disks: Disks, work: Work, raw: Path, image: Path, engine: str | None) -> Subject:
    to_raw = work.what == TO_RAW

    def sample() -> float:
        out = disks.new_output()
        begin = time.perf_counter()
        try:
            if to_raw:
                qcow2crypt.convert(
                    image,
                    out,
                    source_format="qcow2",
                    secret=secret(work.encryption),
                    engine=engine,
                    target_cache="unsafe",
                )
            else:
                qcow2crypt.convert(
                    raw,
                    out,
                    source_format="raw",
                    target_format="qcow2",
                    options=options(work.cluster_size, work.encryption),
                    target_secret=secret(work.encryption),
                    engine=engine,
                    target_cache="unsafe",
                )
        except Qcow2CryptError as error:
            raise BenchError(str(error)) from error
        return time.perf_counter() - begin

    def check() -> None:
        if to_raw:
            disks.same(disks.out, "none", "raw")
        else:
            disks.same(disks.out, work.encryption, "qcow2")

    return Subject(work, sample, check)


def _random(work: Work, path: Path, places: list[int], engine: str | None) -> Subject:
    data = bytes(range(1, 129)) * (work.size // 128)

    def sample() -> float:
        try:
            with qcow2crypt.open(
                path, secret(work.encryption), "r+", format="qcow2", engine=engine
            ) as image:
                for place in places:
                    image.pread(work.size, place)
                begin = time.perf_counter()
                if work.what == "read":
                    for place in places:
                        image.pread(work.size, place)
                else:
                    image.pwrite(data, places[0])  # the first write reads what edits need
                    begin = time.perf_counter()
                    for place in places:
                        image.pwrite(data, place)
                return (time.perf_counter() - begin) / len(places)
        except Qcow2CryptError as error:
            raise BenchError(str(error)) from error

    def check() -> None:
        if work.what == "write":
            with qcow2crypt.open(path, secret(work.encryption), format="qcow2") as image:
                if any(image.pread(work.size, place) != data for place in places):
                    raise BenchError("what was written is not read back: not measured")

    return Subject(work, sample, check)

"""How long to measure, and what: the three sizes of a run.

Pure values.  A disk that fits to a slow engine is made smaller here, so that a short run stays
short on a machine without C kernels.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

KIB, MIB = 1 << 10, 1 << 20
LARGEST_CLUSTER = 2 * MIB
EVERY_CLUSTER_SIZE = tuple(512 << shift for shift in range(13))
"""512 bytes to 2 MiB: all that qcow2 has."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What one run measures.

    ``seconds``        no round begins that would end later than this after the start
    ``rounds``         the most rounds; each takes every subject once
    ``disk_size``      bytes of the guest disk that is converted and read
    ``cluster_sizes``  those of the images
    ``off_sizes``      those that are measured without AES instructions too
    ``call_sizes``     bytes that the cipher gets in one call
    ``call_seconds``   about so long is one sample of the cipher
    ``requests``       how many random requests make one sample
    ``request_sizes``  bytes of one of them
    ``patience``       one sample that takes longer is left out, and said; a call of the cipher
                       may take a twentieth of it
    ``openssl``        also ask ``openssl speed``, which takes a second for each sample
    """

    name: str
    seconds: float
    rounds: int
    disk_size: int
    cluster_sizes: tuple[int, ...]
    off_sizes: tuple[int, ...]
    call_sizes: tuple[int, ...]
    call_seconds: float
    requests: int
    request_sizes: tuple[int, ...] = (4 * KIB,)
    patience: float = 1.0
    openssl: bool = True


QUICK = Settings(
    name="quick",
    seconds=16,
    rounds=9,
    disk_size=16 * MIB,
    cluster_sizes=(512, 4 * KIB, 64 * KIB, LARGEST_CLUSTER),
    off_sizes=(64 * KIB,),
    call_sizes=(512, 4 * KIB, 64 * KIB, MIB),
    call_seconds=0.001,
    requests=400,
    patience=0.4,
    openssl=False,
)
USUAL = Settings(
    name="usual",
    seconds=80,
    rounds=21,
    disk_size=32 * MIB,
    cluster_sizes=(512, 2 * KIB, 4 * KIB, 16 * KIB, 64 * KIB, 256 * KIB, LARGEST_CLUSTER),
    off_sizes=(512, 64 * KIB, LARGEST_CLUSTER),
    call_sizes=(512, 2 * KIB, 4 * KIB, 16 * KIB, 64 * KIB, 256 * KIB, MIB, 2 * MIB),
    call_seconds=0.002,
    requests=500,
    patience=0.8,
    openssl=False,
)
FULL = Settings(
    name="full",
    seconds=400,
    rounds=21,
    disk_size=64 * MIB,
    cluster_sizes=EVERY_CLUSTER_SIZE,
    off_sizes=(512, 4 * KIB, 64 * KIB, LARGEST_CLUSTER),
    call_sizes=(*EVERY_CLUSTER_SIZE, 8 * MIB),
    call_seconds=0.004,
    requests=500,
    request_sizes=(512, 4 * KIB, 64 * KIB),
    patience=2.0,
)

SLOWEST_CONVERSION = 0.4
"""Seconds that our own cipher may need for the whole disk; else the disk is made smaller."""
SLOWEST_REQUESTS = 0.1
"""Seconds that it may need for the requests of one sample; else there are fewer."""


def fitted(settings: Settings, bytes_per_second: float) -> Settings:
    """The same with a disk that a cipher of this speed gets through, 1 MiB at least, and not more
    requests than it does in a moment, 20 at least.

    >>> fitted(QUICK, 1e9) == QUICK
    True
    >>> fitted(QUICK, 20e6).disk_size >> 20
    4
    """
    size = settings.disk_size
    while size > MIB and size / bytes_per_second > SLOWEST_CONVERSION:
        size //= 2
    moment = int(SLOWEST_REQUESTS * bytes_per_second / max(settings.request_sizes))
    return replace(settings, disk_size=size, requests=min(settings.requests, max(20, moment)))


def room_needed(settings: Settings) -> int:
    """The most bytes that the files of a run take: the disk, its images, one that is being made.

    An image takes at most a sixteenth more than its disk: 8 bytes of table and 2 of refcount for
    each cluster of 512 bytes, and tables of tables; and up to 8 clusters whatever it holds.

    >>> room_needed(QUICK) >> 20
    329
    """
    image = settings.disk_size + settings.disk_size // 16 + 8 * LARGEST_CLUSTER
    return (2 * len(settings.cluster_sizes) + 1) * image + 2 * settings.disk_size

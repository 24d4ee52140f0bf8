"""qcow2 images with all there can be in one, made by QEMU and chosen by seed."""

from __future__ import annotations

import random
from dataclasses import dataclass
from pathlib import Path

from qcow2crypt.testing.witness import Disk, QemuImg

_PIECES = (512, 4096, 65536, 100 << 10)


@dataclass(frozen=True, slots=True)
class Shape:
    """What an image has."""

    snapshots: bool
    bitmaps: bool


def random_image(path: Path, qemu_img: QemuImg, seed: int) -> Shape:
    """Have QEMU make an image of random shape and content."""
    draw = random.Random(seed)
    version3 = draw.random() < 0.8
    extended = version3 and draw.random() < 0.25
    cluster = 16384 if extended else draw.choice([512, 512, 4096, 65536])
    bits = draw.choice([1, 2, 4, 8, 16, 16, 32, 64]) if version3 else 16
    size = draw.choice([1 << 20, 4 << 20] if extended else [99_840, 299_520, 1 << 20])
    options = {
        "cluster_size": cluster,
        "compat": "1.1" if version3 else "0.10",
        "refcount_bits": bits,
        "extended_l2": extended,
    }
    disk = Disk(path)
    qemu_img.create(disk, size, {key: value for key, value in options.items() if value})
    write(qemu_img, disk, draw, size, cluster)
    # qemu-img 7.2 loses the snapshots of an image that has bitmaps too when it repairs it.
    bitmaps = version3 and draw.random() < 0.25
    snapshots = not bitmaps and bits > 1 and draw.random() < 0.6
    for number in range(draw.randint(1, 2) if snapshots else 0):
        # Where the refcounts are narrow this may fail: then there is no such snapshot.
        qemu_img.run("snapshot", "-c", f"s{number}", path, check=False)
        write(qemu_img, disk, draw, size, cluster)
    if bitmaps:
        qemu_img.run("bitmap", "--add", "-g", "512", path, "b0")
        write(qemu_img, disk, draw, size, cluster)
    return Shape(snapshots, bitmaps)


def write(qemu_img: QemuImg, disk: Disk, draw: random.Random, size: int, cluster: int) -> None:
    """Some writes of all kinds."""
    commands = []
    for _ in range(draw.randint(1, 6)):
        start = draw.randrange(0, size, 512)
        length = min(draw.choice([*_PIECES, cluster]), size - start)
        commands.append(
            draw.choice(
                [
                    *[f"write -P {draw.randint(1, 255)} {start} {length}"] * 5,
                    f"write -z {start} {length}",
                    f"write -z -u {start} {length}",
                    f"discard {start} {length}",
                    f"write -c -P 7 {start // cluster * cluster} {cluster}",
                ]
            )
        )
    # A compressed write to a cluster that has data fails, and that is fine.
    qemu_img.qemu_io(disk, commands, check=False)

"""The lab: the flaws of legacy AES encryption, each shown on an image that is made for it.

A demonstration makes its images, does what an attacker or a careless owner would do, and counts.
What it claims stands beside the figure of the run; where qemu-img is installed, QEMU reads the same
files and makes the LUKS images that are measured for contrast.

    base        what a demonstration, a claim and a picture are
    desk        the folder and the images in it
    stored      ciphertext of an image, without a key
    search      what any given image gives away without a key

The demonstrations are in ``DEMONSTRATIONS``, in the order in which a course would take them.
"""

from __future__ import annotations

from qcow2crypt.lab import (
    bitflip,
    move,
    picture,
    salt,
    snapshot,
    truncated,
    watermark,
    wrong,
)
from qcow2crypt.lab.base import Demonstration

DEMONSTRATIONS: dict[str, Demonstration] = {
    one.name: one
    for one in (
        truncated.DEMONSTRATION,
        wrong.DEMONSTRATION,
        salt.DEMONSTRATION,
        picture.DEMONSTRATION,
        watermark.DEMONSTRATION,
        snapshot.DEMONSTRATION,
        bitflip.DEMONSTRATION,
        move.DEMONSTRATION,
    )
}

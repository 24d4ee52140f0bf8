"""One encrypted image with every kind of cluster, put together by hand, and its guest disk.

``FILE`` is the image, ``DISK`` what its guest sees, ``SECRET`` what opens it.
"""

from __future__ import annotations

import random
import struct
import zlib

from qcow2crypt import SectorCipher
from qcow2crypt.testing.damage.tiny import COMPRESSED, COPIED, ZERO, put_fields, tiny

SECRET = "the passphrase"
CLUSTER = 4096
CLUSTERS = 12


def make_image() -> tuple[bytes, bytes]:
    """The image file and its guest disk, put together by hand; 4 KiB clusters, 12 of them."""
    noise = random.Random(7)
    cipher = SectorCipher.from_passphrase(SECRET)
    disk = bytearray(CLUSTER * CLUSTERS)
    l2 = [0] * (CLUSTER // 8)
    file = bytearray(put_fields(tiny(cluster_bits=12).data[: 5 * CLUSTER], {"crypt_method": 1}))
    # data data hole zero packed data(elsewhere) zero-with-cluster packed data data data hole
    order = {
        0: "data",
        1: "data",
        4: "packed",
        5: "data",
        7: "packed",
        8: "data",
        9: "data",
        10: "data",
    }
    places = [5, 0, 10, 1, 9, 8, 4, 7]
    for index in places:
        at = index * CLUSTER
        plain = noise.randbytes(CLUSTER // 16) * 16
        disk[at : at + CLUSTER] = plain
        if order[index] == "packed":
            deflater = zlib.compressobj(wbits=-12)
            stored = deflater.compress(plain) + deflater.flush()
            l2[index] = COMPRESSED | (len(stored) // 512 + 1) << 58 | len(file)
            file += stored
        else:
            file += bytes(-len(file) % CLUSTER)
            l2[index] = len(file) | COPIED
            file += cipher.encrypt(plain, at // 512)
    l2[3] = ZERO
    l2[6] = 5 * CLUSTER | ZERO | COPIED
    file[4 * CLUSTER : 5 * CLUSTER] = struct.pack(f">{len(l2)}Q", *l2)
    # The disk ends inside its last cluster but one.
    size = CLUSTER * (CLUSTERS - 1) + 1536
    return put_fields(bytes(file), {"size": size}), bytes(disk[:size])


FILE, DISK = make_image()

"""What property tests draw from: keys, passphrases, sectors, images and damage to them.

Needs hypothesis.  Values are chosen around the places where an implementation may change its way:
one sector, a few, as many as fit side by side, one more; sector numbers at powers of two; cluster
borders; the sixteenth byte of a passphrase.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from hypothesis import strategies as st

from qcow2crypt.testing.case import (
    Case,
    Discard,
    Fill,
    Layer,
    Operation,
    Resize,
    Write,
    WriteZeroes,
)
from qcow2crypt.testing.generate import make_case
from qcow2crypt.testing.rules import tidy
from qcow2crypt.testing.runs import KEY_SIZES, RUN_LENGTHS, SECTOR_SIZES, Run, make_run
from qcow2crypt.units import SECTOR_NUMBER_MAX

_FIFTEEN = "0123456789abcde"
_EDGES = (
    "",
    "x",
    "pass\0word",  # the key goes on behind it
    _FIFTEEN,
    _FIFTEEN + "f",
    _FIFTEEN + "fg",  # the last one does not count
    "pässwörd €",
    _FIFTEEN + "é",  # cut inside of a character
    " a,b=c \n",
)


def keys() -> st.SearchStrategy[bytes]:
    """AES keys of all three sizes."""
    return st.sampled_from(KEY_SIZES).flatmap(lambda size: st.binary(min_size=size, max_size=size))


def passphrases() -> st.SearchStrategy[bytes]:
    """Passphrases as bytes: 0, 15, 16, 17 of them, with NUL, not ASCII, and not even UTF-8.

    QEMU before 2.10 took what the terminal gave; later ones refuse NUL and what is not UTF-8.
    """
    return st.one_of(
        st.sampled_from(_EDGES).map(str.encode),
        st.sampled_from((15, 16, 17)).flatmap(lambda n: st.binary(min_size=n, max_size=n)),
        st.binary(max_size=40),
    )


def passphrase_texts() -> st.SearchStrategy[str]:
    """Passphrases that can be typed on a command line: text without NUL."""
    return st.one_of(
        st.sampled_from([text for text in _EDGES if "\0" not in text]),
        st.text(st.characters(exclude_categories=("Cs", "Cc")), max_size=24),
    )


@st.composite
def runs(draw: st.DrawFn, max_bytes: int = 1 << 16, max_count: int = 129) -> Run:
    """Runs of at most ``max_bytes`` bytes and ``max_count`` sectors."""
    sector_size = draw(st.sampled_from(SECTOR_SIZES))
    most = min(max_count, max_bytes // sector_size)
    edges = [count for count in RUN_LENGTHS if count <= most]
    count = draw(st.one_of(st.sampled_from(edges), st.integers(0, most)))
    key_size = draw(st.sampled_from(KEY_SIZES))
    return make_run(draw(st.integers(0, 2**32)), count, key_size=key_size, sector_size=sector_size)


def sector_numbers(count: int = 1) -> st.SearchStrategy[int]:
    """First numbers of runs of ``count`` sectors, often at a place where something may turn."""
    last = SECTOR_NUMBER_MAX - max(count - 1, 0)
    turns = (0, 1, 2**32 - 1, 2**32, 2**32 - count, 2**63 - 1, 2**63 - count, last - 1, last)
    return st.one_of(
        st.sampled_from([number for number in turns if 0 <= number <= last]), st.integers(0, last)
    )


@st.composite
def ranges(draw: st.DrawFn, size: int, cluster_size: int) -> tuple[int, int]:
    """Offset and length of a range of a disk of ``size`` bytes: any, and around borders."""
    if size == 0:
        return 0, 0
    unit = draw(st.sampled_from((1, 512, 512, cluster_size)))
    start = draw(st.integers(0, (size - 1) // unit)) * unit
    length = unit * draw(st.sampled_from((1, 1, 2, 3, 8, 40)))
    return start, min(length, size - start)


@st.composite
def layers(
    draw: st.DrawFn,
    *,
    encrypted: bool | None = None,
    versions: tuple[Literal[2, 3], ...] = (2, 3),
    cluster_sizes: tuple[int, ...] = (512, 4096, 16384, 65536),
    extended: bool = True,
    most_sectors: int = 400,
) -> Layer:
    """Geometries of new qcow2 images, of at most ``most_sectors`` sectors.

    ``encrypted`` None is either, ``extended`` allows subclusters.  Nothing is written to them yet.
    """
    version = draw(st.sampled_from(versions))
    cluster_size = draw(st.sampled_from(cluster_sizes))
    aes = draw(st.booleans()) if encrypted is None else encrypted
    new = version == 3
    return Layer(
        512 * draw(st.integers(1, most_sectors)),
        version=version,
        cluster_size=cluster_size,
        passphrase=draw(passphrase_texts()) if aes else None,
        refcount_bits=draw(st.sampled_from((16, 1, 2, 4, 8, 32, 64))) if new else 16,
        lazy_refcounts=new and draw(st.booleans()),
        extended_l2=new and extended and cluster_size >= 16384 and draw(st.booleans()),
    )


def fills() -> st.SearchStrategy[Fill]:
    """What is written."""
    return st.one_of(
        st.builds(Fill, st.just("pattern"), st.integers(0, 255)),
        st.builds(Fill, st.sampled_from(("numbers", "random")), st.integers(0, 9999)),
    )


@st.composite
def write_scripts(draw: st.DrawFn, layer: Layer, most: int = 8) -> tuple[Operation, ...]:
    """What is done to an image, one thing after the other: writes, zeros, discards, sizes.

    Only what QEMU carries out, and what has one right content: see ``rules.tidy``.
    """
    script: list[Operation] = []
    for _ in range(draw(st.integers(1, most))):
        start, length = draw(ranges(layer.size, layer.cluster_size))
        script.append(
            draw(
                st.one_of(
                    st.builds(Write, st.just(start), st.just(length), fills()),
                    st.builds(WriteZeroes, st.just(start), st.just(length), st.booleans()),
                    st.just(Discard(start, length)),
                    st.integers(1, 400).map(lambda sectors: Resize(512 * sectors)),
                )
            )
        )
    return tidy(Case((replace(layer, operations=tuple(script)),))).top.operations


def cases(profile: str = "all") -> st.SearchStrategy[Case]:
    """Chains of images with all that is done to them; ``generate.PROFILES`` has the profiles."""
    return st.randoms(use_true_random=False).map(lambda choose: make_case(choose, profile))

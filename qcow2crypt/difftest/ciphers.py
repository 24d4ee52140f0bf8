"""Who encrypts a run of sectors: every engine and kernel of ours, OpenSSL, PyCryptodome.

All take the same ``Run`` and give its bytes.  The others get their IVs from the textbook, one by
one, so that ours are held against that, too.
"""

from __future__ import annotations

import random
from abc import abstractmethod
from collections.abc import Callable
from importlib import import_module
from typing import Any, NamedTuple

from qcow2crypt import engines
from qcow2crypt.crypt.cipher import SectorCipher
from qcow2crypt.reference import iv_generator
from qcow2crypt.units import SECTOR_NUMBER_MAX, SECTOR_SIZE

GUARD = 64
"""Bytes before and behind the output that nobody may touch."""
_LENGTHS = (1, 1, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 15, 16, 17, 24, 31, 32, 33, 65, 129)
_LONG = (300, 1000, 2047, 2048, 2049, 3000)
_EDGES = (0, 1, 255, 256, 65535, 2**31, 2**32 - 5, 2**32, 2**33, 2**63 - 3, SECTOR_NUMBER_MAX)


class Run(NamedTuple):
    """One piece of work.

    ``key``     16, 24 or 32 bytes; made up
    ``first``   the number of the first sector, ``sectors`` how many there are
    ``ivs``     plain64, plain, essiv:sha256
    ``before``  how many bytes input and output begin behind a border of 64 bytes
    """

    key: bytes
    ivs: str
    first: int
    sectors: int
    data: bytes
    encrypt: bool
    in_place: bool
    before: tuple[int, int]

    def part(self, start: int, count: int) -> Run:
        """The same for some of its sectors."""
        data = self.data[start * SECTOR_SIZE : (start + count) * SECTOR_SIZE]
        return self._replace(first=self.first + start, sectors=count, data=data)


class Cipher:
    """One that does runs.

    The slow ones get at most ``most`` sectors at once, and take part in every ``every`` th round.
    """

    most = 1 << 20
    every = 1

    def __init__(self, name: str) -> None:
        self.name = name

    @abstractmethod
    def do(self, run: Run) -> bytes:
        """The bytes of a run."""


class OurCipher(Cipher):
    """An engine of ours, with one of its kernels."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.most, self.every = {"reference": (1, 200), "pure": (16, 20)}.get(
            name, (self.most, self.every)
        )
        self._key: tuple[bytes, str] = (b"", "")
        self._cipher: SectorCipher | None = None

    def do(self, run: Run) -> bytes:
        """From buffer to buffer, at their odd places.  A write beside the output is an error."""
        if self._cipher is None or self._key != (run.key, run.ivs):
            self._cipher = SectorCipher(run.key, iv_generator=run.ivs, engine=self.name)
            self._key = (run.key, run.ivs)
        length = len(run.data)
        source = _placed(run.data, run.before[0])
        target = source if run.in_place else _placed(bytes(length), run.before[1])
        start = GUARD + (run.before[0] if run.in_place else run.before[1])
        views = [memoryview(source)[GUARD + run.before[0] :][:length]]
        views.append(memoryview(target)[start : start + length])
        work = self._cipher.encrypt_into if run.encrypt else self._cipher.decrypt_into
        work(views[0], views[1], run.first)
        if any(target[:start]) or any(target[start + length :]):
            return b"bytes beside the output were changed"
        return bytes(views[1])


def _placed(data: bytes, before: int) -> bytearray:
    return bytearray(GUARD + before) + data + bytes(GUARD)


class OpenSslCipher(Cipher):
    """OpenSSL, by way of the package cryptography."""

    def __init__(self) -> None:
        super().__init__("OpenSSL")
        self._ciphers: Any = import_module("cryptography.hazmat.primitives.ciphers")
        self.most, self.every = 16, 4

    def do(self, run: Run) -> bytes:
        """Sector by sector."""
        make = self._ciphers
        key = make.algorithms.AES(run.key)
        parts = []
        for iv, sector in _sectors(run):
            cipher = make.Cipher(key, make.modes.CBC(iv))
            context = cipher.encryptor() if run.encrypt else cipher.decryptor()
            parts.append(context.update(sector) + context.finalize())
        return b"".join(parts)


class PyCryptodomeCipher(Cipher):
    """PyCryptodome itself, not our engine on top of it."""

    def __init__(self) -> None:
        super().__init__("PyCryptodome")
        self._aes: Any = import_module("Crypto.Cipher.AES")
        self.most, self.every = 16, 4

    def do(self, run: Run) -> bytes:
        """Sector by sector."""
        parts = []
        for iv, sector in _sectors(run):
            cipher = self._aes.new(run.key, self._aes.MODE_CBC, iv)
            parts.append(cipher.encrypt(sector) if run.encrypt else cipher.decrypt(sector))
        return b"".join(parts)


def _sectors(run: Run) -> list[tuple[bytes, bytes]]:
    generate = iv_generator(run.ivs, run.key)
    return [
        (
            bytes(generate(run.first + index)),
            run.data[index * SECTOR_SIZE : (index + 1) * SECTOR_SIZE],
        )
        for index in range(run.sectors)
    ]


def all_ciphers() -> tuple[list[Cipher], list[str]]:
    """All that work here, the fastest first; and in words what is missing."""
    status = engines.status()
    found: list[Cipher] = [
        OurCipher(f"native:{kernel.name}") for kernel in status.kernels if kernel.available
    ]
    missing = [f"native:{row.name}: {row.reason}" for row in status.kernels if not row.available]
    for row in status.engines:
        if row.name != "native" and row.available:
            found.append(OurCipher(row.name))
        elif not row.available:
            missing.append(f"{row.name}: {row.reason}")
    for name, peer in (("OpenSSL", OpenSslCipher), ("PyCryptodome", PyCryptodomeCipher)):
        other = _made(peer)
        if isinstance(other, str):
            missing.append(f"{name}: {other}")
        else:
            found.append(other)
    return found, missing


def _made(peer: Callable[[], Cipher]) -> Cipher | str:
    """A cipher of another library, or why there is none."""
    try:
        return peer()
    except ImportError as error:
        return str(error)


def make_run(choose: random.Random, key: bytes) -> Run:
    """A random run for a key."""
    count = choose.choice(_LONG) if choose.random() < 0.002 else choose.choice(_LENGTHS)
    edge = choose.choice((*_EDGES, choose.getrandbits(40), choose.getrandbits(64)))
    first = min(max(0, edge - choose.randrange(4)), SECTOR_NUMBER_MAX - count + 1)
    return Run(
        key,
        choose.choice(("plain64",) * 8 + ("plain", "essiv:sha256")),
        first,
        count,
        choose.randbytes(count * SECTOR_SIZE),
        choose.random() < 0.5,
        choose.random() < 0.5,
        (choose.randrange(GUARD), choose.randrange(GUARD)),
    )


def make_key(choose: random.Random) -> bytes:
    """A random key, most often of 16 bytes, as qcow2 has it."""
    return choose.randbytes(choose.choice((16, 16, 16, 24, 32)))

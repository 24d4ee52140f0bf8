"""SectorCipher: a key, an IV generator and an engine, to encrypt and decrypt runs of sectors.

Legacy qcow2 encryption is AES-128-CBC with plain64, over the numbers of *guest* sectors.  This
class takes the numbers as they come: which are the right ones is for the image to know.

Knows sector numbers and keys; knows no clusters, files or images.
"""

from __future__ import annotations

from types import TracebackType

from qcow2crypt import engines
from qcow2crypt.crypt import ivgen
from qcow2crypt.crypt.legacy_aes import key_from_passphrase
from qcow2crypt.engines.base import byte_view, pieces
from qcow2crypt.errors import ArgumentError
from qcow2crypt.units import BLOCK_SIZE, SECTOR_SIZE, ReadBuffer, WriteBuffer

_PIECE_BYTES = 1 << 20  # so much is given to the engine at once; its IVs are 1/32 of that


class SectorCipher:
    """AES-CBC over whole sectors, each of them a message of its own.

    ``key``           16, 24 or 32 bytes
    ``iv_generator``  "plain64", "plain" or "essiv:sha256"
    ``engine``        a name, an Engine, or None for the best that works here
    ``sector_size``   bytes of a sector, a multiple of 16; legacy qcow2 and LUKS1 have 512

    The key of legacy qcow2 comes from a passphrase.  This is sector 1 of a disk of zeros:

    >>> cipher = SectorCipher.from_passphrase("hunter2")
    >>> secret = cipher.encrypt(bytes(512), first_sector=1)
    >>> secret[:16].hex(), secret[-16:].hex()
    ('34d4fd9fcba0bd00d4dd20b205ecfd50', 'a8e621fec06b3bdafd61a650fadf29a4')
    >>> cipher.decrypt(secret, first_sector=1) == bytes(512)
    True
    >>> SectorCipher(bytes(32), iv_generator="essiv:sha256", engine="pure")
    <SectorCipher essiv:sha256, sectors of 512 bytes, engine 'pure'>

    A wrong key is no error: nothing in the data could tell, so other bytes come out.

    Threads may share a cipher.  Raises ArgumentError for a key length, IV generator or sector
    size that cannot be, EngineUnavailableError for an engine that does not work here.
    """

    def __init__(
        self,
        key: bytes,
        *,
        iv_generator: str = "plain64",
        engine: str | engines.Engine | None = None,
        sector_size: int = SECTOR_SIZE,
    ) -> None:
        if sector_size < BLOCK_SIZE or sector_size % BLOCK_SIZE:
            raise ArgumentError(f"sector size {sector_size} is not a positive multiple of 16")
        self._engine = engines.get(engine)
        self._sector_size = sector_size
        self._iv_generator = iv_generator
        self._ivs: ivgen.IvGenerator | None = ivgen.iv_generator(iv_generator, key, self._engine)
        self._key: engines.ExpandedKey | None = self._engine.expand_key(key)

    @classmethod
    def from_passphrase(
        cls, passphrase: str | bytes, *, engine: str | engines.Engine | None = None
    ) -> SectorCipher:
        """The cipher of legacy qcow2 encryption (crypt_method 1) for a passphrase.

        Raises SecretError for a str that has no UTF-8 form.
        """
        return cls(key_from_passphrase(passphrase), engine=engine)

    @property
    def engine(self) -> str:
        """The name of the engine that does the work."""
        return self._engine.name

    @property
    def iv_generator(self) -> str:
        """The name of the IV generator."""
        return self._iv_generator

    @property
    def sector_size(self) -> int:
        """The bytes of a sector."""
        return self._sector_size

    def encrypt(self, data: ReadBuffer, first_sector: int) -> bytes:
        """Encrypt a run of sectors, the first of them with the number ``first_sector``.

        Raises ArgumentError, before any work, when ``data`` is not whole sectors or a sector
        number is not in 0 to 2**64 - 1.
        """
        out = bytearray(byte_view(data).nbytes)
        self.encrypt_into(data, out, first_sector)
        return bytes(out)

    def decrypt(self, data: ReadBuffer, first_sector: int) -> bytes:
        """Decrypt a run of sectors.  Arguments and errors as ``encrypt``.

        >>> SectorCipher.from_passphrase("hunter2").decrypt(bytes(512), 0)[:16].hex()
        'fc7fca58bd98ce7403ef3992f9e555b5'
        """
        out = bytearray(byte_view(data).nbytes)
        self.decrypt_into(data, out, first_sector)
        return bytes(out)

    def encrypt_into(self, src: ReadBuffer, dst: WriteBuffer, first_sector: int) -> None:
        """Encrypt the run in ``src`` into ``dst``, of equal length; they may be the same memory.

        They must not overlap in any other way.  Else as ``encrypt``.

        >>> disk = bytearray(2 * 512)
        >>> SectorCipher.from_passphrase("hunter2").encrypt_into(disk, disk, 0)
        >>> disk[512:528].hex()
        '34d4fd9fcba0bd00d4dd20b205ecfd50'
        """
        key, generate, source, target = self._open(src, dst, first_sector)
        size = self._sector_size
        for start, end in pieces(len(source) // size, max(1, _PIECE_BYTES // size)):
            place = slice(start * size, end * size)
            ivs = generate(first_sector + start, end - start)
            key.cbc_encrypt(ivs, source[place], target[place], size)

    def decrypt_into(self, src: ReadBuffer, dst: WriteBuffer, first_sector: int) -> None:
        """Decrypt the run in ``src`` into ``dst``.  Arguments and errors as ``encrypt_into``."""
        key, generate, source, target = self._open(src, dst, first_sector)
        size = self._sector_size
        for start, end in pieces(len(source) // size, max(1, _PIECE_BYTES // size)):
            place = slice(start * size, end * size)
            ivs = generate(first_sector + start, end - start)
            key.cbc_decrypt(ivs, source[place], target[place], size)

    def close(self) -> None:
        """Let go of the key.  After that the cipher cannot be used; to close again is no error.

        The engine ``native`` then wipes its round keys, as soon as no call uses them any more.
        Nothing else is wiped: what other engines hold, and the ``bytes`` or ``str`` that the key
        or passphrase was given in, CPython frees as it is, and the bytes stay in memory until
        something is written over them.  Whoever needs keys gone must end the process.
        """
        self._key = self._ivs = None

    def __enter__(self) -> SectorCipher:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        state = ", closed" if self._key is None else ""
        return (
            f"<SectorCipher {self._iv_generator}, sectors of {self._sector_size} bytes, "
            f"engine '{self.engine}'{state}>"
        )

    def _open(
        self, src: ReadBuffer, dst: WriteBuffer, first_sector: int
    ) -> tuple[engines.ExpandedKey, ivgen.IvGenerator, memoryview, memoryview]:
        """Check one call as a whole, before its first piece; give what the pieces need."""
        if self._key is None or self._ivs is None:
            raise ArgumentError("this SectorCipher is closed: make a new one")
        source, target = byte_view(src), byte_view(dst)
        count, rest = divmod(len(source), self._sector_size)
        if rest:
            raise ArgumentError(
                f"{len(source)} bytes are not whole sectors of {self._sector_size} bytes"
            )
        if len(target) != len(source):
            raise ArgumentError(f"output has {len(target)} bytes, input has {len(source)}")
        ivgen.check_sectors(first_sector, count)
        return self._key, self._ivs, source, target

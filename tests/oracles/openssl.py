"""What OpenSSL says: AES-CBC of sectors and AES-ECB of blocks, by way of the cryptography package.

Written in the plainest way, one cipher object for each sector, and it shares no line with the
code under test.  Only tests use it; ``openssl_or_skip`` skips where the package is missing.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import ModuleType

import pytest

NO_OPENSSL = "the package cryptography is not installed: nothing was compared with OpenSSL"
BLOCK = 16


@dataclass(frozen=True)
class OpenSsl:
    """``ciphers`` is the module cryptography.hazmat.primitives.ciphers."""

    ciphers: ModuleType

    def cbc_encrypt(self, key: bytes, ivs: bytes, data: bytes, sector_size: int = 512) -> bytes:
        """Each sector of ``data`` on its own, with its 16 bytes of ``ivs``."""
        return self._cbc(key, ivs, data, sector_size, encrypt=True)

    def cbc_decrypt(self, key: bytes, ivs: bytes, data: bytes, sector_size: int = 512) -> bytes:
        """The way back."""
        return self._cbc(key, ivs, data, sector_size, encrypt=False)

    def ecb_encrypt(self, key: bytes, data: bytes) -> bytes:
        """Each block of ``data`` on its own."""
        cipher = self.ciphers.Cipher(self.ciphers.algorithms.AES(key), self.ciphers.modes.ECB())
        return bytes(cipher.encryptor().update(data))

    def _cbc(
        self, key: bytes, ivs: bytes, data: bytes, sector_size: int, *, encrypt: bool
    ) -> bytes:
        out = []
        for number, start in enumerate(range(0, len(data), sector_size)):
            iv = ivs[number * BLOCK : (number + 1) * BLOCK]
            cipher = self.ciphers.Cipher(
                self.ciphers.algorithms.AES(key), self.ciphers.modes.CBC(iv)
            )
            context = cipher.encryptor() if encrypt else cipher.decryptor()
            out.append(context.update(data[start : start + sector_size]) + context.finalize())
        return b"".join(out)


def openssl_or_skip() -> OpenSsl:
    """OpenSSL; where the package is missing, the test is skipped and the summary says so."""
    module = "cryptography.hazmat.primitives.ciphers"
    ciphers = pytest.importorskip(module, reason=NO_OPENSSL)
    for name in ("algorithms", "modes"):
        pytest.importorskip(f"{module}.{name}", reason=NO_OPENSSL)
    return OpenSsl(ciphers)

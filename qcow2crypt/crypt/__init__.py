"""Which key, which IV: what stands between sector numbers and the engines.

    ivgen        the IVs of a run of sectors
    cipher       SectorCipher: key, IV generator and engine as one thing
    legacy_aes   from a passphrase to the key, as crypt_method 1 of qcow2 has it

Knows sectors and keys; knows no clusters, files or images.
"""

from __future__ import annotations

"""Where the flaws and the answers to them are told."""

from __future__ import annotations

from qcow2crypt.lab.base import Source

QEMU_FLAWS = Source(
    "QEMU commit 136cd19 (2014): describe flaws in qcow/qcow2 encryption in the docs",
    "https://gitlab.com/qemu-project/qemu/-/commit/136cd19d0522c03b6dccc3e344886feab6faee43",
)
QEMU_LUKS = Source(
    "QEMU commit 4652b8f (2017): LUKS in qcow2, and why its IVs count host sectors",
    "https://gitlab.com/qemu-project/qemu/-/commit/4652b8f3e1ec91bb9d6f00e40df7f96d1f1aafee",
)
FRUHWIRTH = Source(
    "Clemens Fruhwirth, Linux hard disk encryption settings: public IVs, watermarks, ESSIV",
    "https://clemens.endorphin.org/LinuxHDEncSettings",
)
SAARINEN = Source(
    "Markku-Juhani O. Saarinen, Encrypted Watermarks and Linux Laptop Security (2004)",
    "https://is.muni.cz/el/fi/jaro2012/PV204/um/11diskenc/"
    "Encrypted_Watermarks_and_Linux_Laptop_Security.txt",
)
SP800_38A = Source(
    "NIST SP 800-38A, Recommendation for Block Cipher Modes of Operation; ECB, CBC, appendix D",
    "https://doi.org/10.6028/NIST.SP.800-38A",
)
BROZ = Source(
    "Broz, Patocka, Matyas: Practical Cryptographic Data Integrity Protection with Full Disk "
    "Encryption (2018)",
    "https://doi.org/10.1007/978-3-319-99828-2_6",
)
DIESBURG = Source(
    "Diesburg et al., When Cryptography Meets Storage: IVs used again by the ways of storage",
    "https://docslib.org/doc/9964623/when-cryptography-meets-storage-sarah-m",
)
PTACEK = Source(
    "You Don't Want XTS (2014): what XTS does not give",
    "https://sockpuppet.org/blog/2014/04/30/you-dont-want-xts/",
)
LUKS1 = Source(
    "LUKS On-Disk Format Specification 1.2: key slots, PBKDF2, the digest of the master key",
    "https://gitlab.com/cryptsetup/cryptsetup/-/wikis/LUKS-standard/on-disk-format.pdf",
)
RFC8018 = Source(
    "RFC 8018, PKCS #5: salt and iteration count, and why", "https://www.rfc-editor.org/rfc/rfc8018"
)

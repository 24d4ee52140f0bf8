"""Which format is it?  Told from the first bytes, as qemu-img does."""

from __future__ import annotations

from qcow2crypt.image.hostfile import HostFile

_PROBED_BYTES = 512
_QCOW_MAGIC = b"QFI\xfb"
_OTHER_MAGICS = (
    (0, b"LUKS\xba\xbe", "luks"),
    (0, b"KDMV", "vmdk"),
    (0, b"COWD", "vmdk"),
    (0, b"# Disk DescriptorFile", "vmdk"),
    (0, b"vhdxfile", "vhdx"),
    (0, b"conectix", "vpc"),
    (0, b"QED\0", "qed"),
    (0, b"WithoutFreeSpace", "parallels"),
    (0, b"WithouFreSpacExt", "parallels"),
    (64, b"\x7f\x10\xda\xbe", "vdi"),
)


def probe(file: HostFile) -> str:
    """The format in qemu-img's words: ``qcow2``, ``qcow``, ``luks``, ...; ``raw`` is the rest."""
    return probe_bytes(file.pread(min(_PROBED_BYTES, file.size), 0))


def probe_bytes(start: bytes) -> str:
    """The same, from the first 512 bytes."""
    if start.startswith(_QCOW_MAGIC):
        return "qcow" if start[4:8] == b"\0\0\0\x01" else "qcow2"
    for offset, magic, name in _OTHER_MAGICS:
        if start.startswith(magic, offset):
            return name
    return "raw"

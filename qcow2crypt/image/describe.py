"""Describe an image without a passphrase, one that cannot be read included.

Reads what the layouts need and turns it into an ``ImageInfo``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qcow2crypt.errors import ArgumentError, FormatError
from qcow2crypt.image.hostfile import HostFile, Source
from qcow2crypt.image.info import ImageInfo, Snapshot
from qcow2crypt.image.probe import probe
from qcow2crypt.image.qcow2 import header as hdr
from qcow2crypt.image.qcow2.structure import Structure, read_structure
from qcow2crypt.units import SECTOR_SIZE, align_up

if TYPE_CHECKING:
    from qcow2crypt.image.luks1 import Luks1Header


def describe(
    source: Source,
    *,
    format: str | None = None,  # noqa: A002 - the word of qemu-img
    force_share: bool = False,
) -> ImageInfo:
    """Describe any image that can be probed; its backing files are not opened.

    Raises SourceError, HeaderError, ArgumentError, and ImageLockedError unless ``force_share``.
    """
    file = HostFile(source)
    try:
        file.lock(writing=False, force_share=force_share)
        return describe_file(file, format)
    finally:
        file.close()


def describe_file(file: HostFile, format: str | None = None) -> ImageInfo:  # noqa: A002
    """Describe an open file.  Raises as ``describe``."""
    found = format or probe(file)
    if found == "qcow2":
        return describe_qcow2(file)
    if found == "qcow":
        return describe_qcow1(file)
    if found == "luks":
        return _describe_luks_file(file)
    if found in ("raw", "file", "host_device"):
        return describe_raw(file)
    if format is not None:
        raise ArgumentError(f"format {format!r} is not one of qcow2, qcow, luks, raw")
    return _plain(file, found, why_unreadable=(f"images of format {found}",))


def describe_raw(file: HostFile) -> ImageInfo:
    """Describe a raw image."""
    return _plain(file, "raw")


def _plain(file: HostFile, format_name: str, why_unreadable: tuple[str, ...] = ()) -> ImageInfo:
    return ImageInfo(
        name=file.name,
        format=format_name,
        virtual_size=align_up(file.size, SECTOR_SIZE) if format_name == "raw" else None,
        file_size=file.size,
        disk_size=file.allocated_size,
        specific={},
        details={},
        why_unreadable=why_unreadable,
    )


def describe_qcow1(file: HostFile) -> ImageInfo:
    """Describe a qcow version 1 image.  Raises HeaderError for a header that is not valid."""
    from qcow2crypt.image.qcow1.structure import read_qcow1_structure

    structure = read_qcow1_structure(file)
    header = structure.header
    return ImageInfo(
        name=file.name,
        format="qcow",
        virtual_size=header.guest_size,
        file_size=file.size,
        disk_size=file.allocated_size,
        encryption="aes" if header.crypt_method else None,
        cluster_size=header.cluster_size,
        backing_file=structure.backing_file,
        specific={},
        details={"header": header._asdict()},
    )


def _describe_luks_file(file: HostFile) -> ImageInfo:
    from qcow2crypt.image.luks1 import HEADER_SIZE, parse_luks1

    header = parse_luks1(file.pread(min(HEADER_SIZE, file.size), 0))
    payload = header.payload_offset * SECTOR_SIZE
    return ImageInfo(
        name=file.name,
        format="luks",
        virtual_size=max(0, align_up(file.size, SECTOR_SIZE) - payload),
        file_size=file.size,
        disk_size=file.allocated_size,
        encryption="luks",
        specific=_luks_dict(header),
        details={},
        why_unreadable=("images of format luks",),
    )


def describe_qcow2(file: HostFile) -> ImageInfo:
    """Describe a qcow2 image.  Raises HeaderError for one whose header is not valid."""
    from qcow2crypt.image.qcow2.remarks import table_remarks
    from qcow2crypt.image.qcow2.snapshots import read_snapshots

    structure = read_structure(file)
    header = structure.header
    findings = _findings(structure)
    findings += table_remarks(
        file, header, external_data=bool(header.incompatible_features & hdr.INCOMPAT_DATA_FILE)
    )
    specific = _specific(structure)
    snapshots: tuple[Snapshot, ...] = ()
    try:
        snapshots = tuple(read_snapshots(file, header))
        findings += _other_sizes(snapshots, header.guest_size)
        if structure.bitmaps is not None:
            from qcow2crypt.image.qcow2.bitmapdirectory import read_directory

            specific["bitmaps"] = [
                {
                    "name": bitmap.shown,
                    "granularity": bitmap.granularity,
                    "flags": ["in-use"] * bitmap.in_use + ["auto"] * bitmap.auto,
                }
                for bitmap in read_directory(file, structure.bitmaps)
            ]
    except FormatError as error:
        findings.append(str(error))
    encryption = (None, "aes", "luks")[header.crypt_method]
    if encryption is not None:
        specific["encrypt"] = {"format": encryption}
    if encryption == "luks":
        _describe_luks(file, structure, specific["encrypt"], findings)
    return ImageInfo(
        name=file.name,
        format="qcow2",
        virtual_size=header.guest_size,
        file_size=file.size,
        disk_size=file.allocated_size,
        encryption=encryption,
        cluster_size=header.cluster_size,
        dirty=bool(header.incompatible_features & hdr.INCOMPAT_DIRTY),
        backing_file=structure.backing_file,
        backing_format=structure.backing_format,
        snapshots=snapshots,
        specific=specific,
        details=_details(structure),
        why_unreadable=structure.why_unreadable(),
        findings=tuple(findings),
    )


def _specific(structure: Structure) -> dict[str, Any]:
    header = structure.header
    zstd = header.compression_type == hdr.COMPRESSION_ZSTD
    result: dict[str, Any] = {
        "compat": "0.10" if header.version == 2 else "1.1",
        "compression-type": "zstd" if zstd else "zlib",
        "refcount-bits": header.refcount_bits,
    }
    if header.version == 2:
        return result
    result["lazy-refcounts"] = bool(header.compatible_features & hdr.COMPAT_LAZY_REFCOUNTS)
    result["corrupt"] = bool(header.incompatible_features & hdr.INCOMPAT_CORRUPT)
    result["extended-l2"] = header.extended_l2
    if structure.data_file is not None:
        result["data-file"] = structure.data_file
    if header.incompatible_features & hdr.INCOMPAT_DATA_FILE:
        result["data-file-raw"] = bool(header.autoclear_features & hdr.AUTOCLEAR_RAW_DATA_FILE)
    return result


def _details(structure: Structure) -> dict[str, Any]:
    return {
        "header": structure.header._asdict(),
        "extensions": [
            {
                "type": f"{extension.type:#010x}",
                "name": extension.name,
                "offset": extension.offset,
                "length": len(extension.data),
            }
            for extension in structure.extensions
        ],
    }


def _other_sizes(snapshots: tuple[Snapshot, ...], size: int) -> list[str]:
    """Snapshots of a disk that had another size; qemu-img has no word for it."""
    others = [one for one in snapshots if one.disk_size != size]
    if not others:
        return []
    shown = ", ".join(f"{one.id} '{one.name}' of {one.disk_size} bytes" for one in others[:10])
    more = f", and {len(others) - 10} more" if len(others) > 10 else ""
    return [f"the disk had another size in snapshots: {shown}{more}"]


def _findings(structure: Structure) -> list[str]:
    header = structure.header
    findings = []
    if header.crypt_method == hdr.CRYPT_AES:
        findings.append(
            "legacy AES encryption is broken by design: the passphrase is the key, nothing tells "
            "a wrong one from the right one, and equal data can be recognised"
        )
    if header.incompatible_features & hdr.INCOMPAT_CORRUPT:
        findings.append("the corrupt bit is set: a writer met damaged metadata")
    if header.incompatible_features & hdr.INCOMPAT_DIRTY:
        findings.append("the dirty bit is set: refcounts may be wrong; reading is not affected")
    if structure.backing_file is not None and not structure.backing_format:
        findings.append(
            "the format of the backing file is not stored: its first bytes decide, and who could "
            "write to it as a raw disk could choose them"
        )
    return findings


def _describe_luks(
    file: HostFile, structure: Structure, encrypt: dict[str, Any], findings: list[str]
) -> None:
    from qcow2crypt.image.luks1 import HEADER_SIZE, parse_luks1

    pointer = structure.crypto
    if pointer is None:
        findings.append(
            "the header extension that points to the LUKS header is missing: QEMU refuses the image"
        )
        return
    length = min(HEADER_SIZE, pointer.length, max(0, file.size - pointer.offset))
    try:
        luks = parse_luks1(file.pread(length, pointer.offset), pointer.offset)
    except FormatError as error:
        findings.append(str(error))
        return
    encrypt.update(_luks_dict(luks))


def _luks_dict(luks: Luks1Header) -> dict[str, Any]:
    """The words of qemu-img: cipher with key size, mode and IV generator taken apart."""
    mode, _, generator = luks.cipher_mode.partition("-")
    generator, _, generator_hash = generator.partition(":")
    key_bits = luks.key_bytes * 8 // (2 if mode == "xts" else 1)
    result: dict[str, Any] = {
        "cipher-alg": f"{luks.cipher_name}-{key_bits}",
        "cipher-mode": mode,
        "ivgen-alg": generator,
        "hash-alg": luks.hash_spec,
        "uuid": luks.uuid,
        "master-key-iters": luks.master_key_iterations,
        "payload-offset": luks.payload_offset * SECTOR_SIZE,
        "slots": [
            {
                "active": slot.active,
                "key-offset": slot.material_offset * SECTOR_SIZE,
                **({"iters": slot.iterations, "stripes": slot.stripes} if slot.active else {}),
            }
            for slot in luks.slots
        ],
    }
    if generator_hash:
        result["ivgen-hash-alg"] = generator_hash
    return result

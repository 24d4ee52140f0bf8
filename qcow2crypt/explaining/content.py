"""What a layer has at one place: the stored sector, and how the guest's sector comes of it.

Reads one sector, or one compressed cluster, of the file that the tables named.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

from qcow2crypt.errors import CompressedDataError, HeaderError
from qcow2crypt.explaining.decryption import aes_steps, decrypted, guest_iv, key_fact, luks_iv
from qcow2crypt.explaining.descent import Found, LayerDisk
from qcow2crypt.explaining.facts import AesStep, CbcBlock, CompressedFact, IvFact, KeyFact
from qcow2crypt.image.luks1 import HEADER_SIZE, Luks1Header, parse_luks1
from qcow2crypt.image.qcow2.compressed import DecompressError, decompress
from qcow2crypt.image.qcow2.header import COMPRESSION_DEFLATE, COMPRESSION_ZSTD
from qcow2crypt.image.qcow2.structure import Structure
from qcow2crypt.image.secrets import LayerSecret, describe
from qcow2crypt.secret import passphrase_bytes
from qcow2crypt.units import SECTOR_SIZE, align_down

if TYPE_CHECKING:
    from qcow2crypt.explaining.following import Question

_BEGINS = 32
_UNNOTICED = (
    "nothing in the format tells whether a passphrase is right: a wrong one gives other bytes, and "
    "no error"
)


class Content(NamedTuple):
    """The fields of an ``Explanation`` that come of bytes."""

    compressed: CompressedFact | None = None
    stored: bytes | None = None
    iv: IvFact | None = None
    key: KeyFact | None = None
    blocks: tuple[CbcBlock, ...] = ()
    steps: tuple[AesStep, ...] = ()
    plaintext: bytes | None = None
    notes: tuple[str, ...] = ()


def content_of(
    disk: LayerDisk, found: Found, question: Question, secret_for: LayerSecret
) -> Content:
    """What the layer has there.  Raises SourceError, SecretError, CompressedDataError."""
    if found.run is not None:
        return _compressed(disk, found)
    host = found.step.host_offset
    if found.step.kind != "data" or host is None:
        return Content(plaintext=bytes(SECTOR_SIZE), notes=_why_zero(disk, found))
    inside = found.step.position.byte_in_sector
    stored = disk.data_file.pread(SECTOR_SIZE, host - inside)
    notes = tuple(_of_storage(disk, stored, host - inside))
    if disk.encryption is None:
        return Content(stored=stored, plaintext=stored, notes=notes)
    if disk.encryption == "luks":
        return _luks(disk, stored, host - inside, notes)
    return _aes(disk, found, stored, question, secret_for, notes)


def _why_zero(disk: LayerDisk, found: Found) -> tuple[str, ...]:
    if found.step.kind == "unallocated":
        backing = disk.layer.structure.backing_file if disk.layer.structure else None
        if backing and disk.layer.options.no_backing:
            return (f"the backing file '{backing}' was not looked at: what it has is seen there",)
        return ("no layer has this byte: the guest reads zeros, and nothing is decrypted",)
    return ("the guest reads zeros, and nothing is decrypted",)


def _of_storage(disk: LayerDisk, stored: bytes, host: int) -> Iterator[str]:
    file = disk.data_file
    if host >= file.size:
        yield (
            f"'{file.name}' ends before, at {file.size:#x}: what is missing reads as zero bytes, "
            "and these are decrypted where the image is encrypted"
        )
    elif disk.encryption and not any(stored):
        yield (
            "all 512 stored bytes are zero: most likely the cluster was preallocated and this "
            "sector never written.  QEMU decrypts that all the same, and the guest reads noise; "
            "open(raw_zeros='zeros') and 'convert --raw-zeros' take it for zeros"
        )


def _aes(  # noqa: PLR0917 - what was found, and what to make of it
    disk: LayerDisk,
    found: Found,
    stored: bytes,
    question: Question,
    secret_for: LayerSecret,
    notes: tuple[str, ...],
) -> Content:
    layer, where = disk.layer, found.step.position
    host = align_down(found.step.host_offset or 0, SECTOR_SIZE)
    secret = secret_for(layer)
    if secret is None:
        text = "the key is not known, so it ends here: the passphrase " + (
            f"of {describe(layer)} is given with --layer-secret-file {layer.depth}=PATH "
            f"(secrets={{{layer.depth}: ...}} in Python)"
            if layer.depth
            else "is given with --secret-file PATH, or --ask (secret=... in Python)"
        )
        return Content(stored=stored, iv=guest_iv(where.sector), notes=(*notes, text))
    passphrase = passphrase_bytes(secret, needed_for=describe(layer))
    iv, blocks, plaintext = decrypted(
        stored,
        passphrase,
        where.sector,
        host // SECTOR_SIZE,
        wrong_iv=question.wrong_iv is not None,
    )
    if iv.number != where.sector:
        text = (
            "this sector has the mark of QEMU 2.7.0, which took the number of the host sector for "
            "the IV: so does this explanation"
        )
        notes = (*notes, text)
    steps = aes_steps(blocks[where.block].ciphertext, passphrase) if question.steps else ()
    return Content(
        stored=stored,
        iv=iv,
        key=key_fact(passphrase, show_key=question.show_key),
        blocks=blocks,
        steps=steps,
        plaintext=plaintext,
        notes=(*notes, _UNNOTICED),
    )


def _luks(disk: LayerDisk, stored: bytes, host: int, notes: tuple[str, ...]) -> Content:
    header = _luks_header(disk)
    if header is None:
        text = "encrypted with LUKS, whose header cannot be read"
        return Content(stored=stored, notes=(*notes, text))
    iv = luks_iv(host // SECTOR_SIZE, header.cipher_mode)
    text = (
        f"encrypted with LUKS ({header.cipher_name}-{header.cipher_mode}), which this package does "
        "not decrypt: its key comes out of a key slot, and its IV counts the sectors of the file, "
        "not those of the guest"
    )
    return Content(stored=stored, iv=iv, notes=(*notes, text))


def _luks_header(disk: LayerDisk) -> Luks1Header | None:
    structure, file = disk.layer.structure, disk.layer.file
    pointer = structure.crypto if isinstance(structure, Structure) else None
    if pointer is None:
        return None
    try:
        return parse_luks1(file.pread(HEADER_SIZE, pointer.offset), pointer.offset)
    except HeaderError:
        return None


def _compressed(disk: LayerDisk, found: Found) -> Content:
    assert found.run is not None  # noqa: S101 - who calls has looked
    structure, where = disk.layer.structure, found.step.position
    assert where.cluster_size is not None  # noqa: S101 - compressed data is in clusters
    kind = COMPRESSION_DEFLATE
    if isinstance(structure, Structure):
        kind = structure.header.compression_type
    data = disk.layer.file.pread(found.run.length, found.run.host_offset)
    start = align_down(where.offset, where.cluster_size)
    skipped = align_down(where.offset, SECTOR_SIZE) - start
    fact = CompressedFact(
        algorithm="zstd" if kind == COMPRESSION_ZSTD else "deflate",
        host_offset=found.run.host_offset,
        length=found.run.length,
        cluster_offset=start,
        skipped=skipped,
        begins=data[:_BEGINS],
    )
    try:
        plain = decompress(data, where.cluster_size, kind)
    except DecompressError as error:
        raise CompressedDataError(
            "compressed cluster cannot be read",
            field="compressed data",
            offset=found.run.host_offset,
            found=str(error),
            allowed=f"data for exactly {where.cluster_size} bytes",
            guest_offset=start,
        ) from error
    text = (
        "compressed clusters are neither encrypted nor decrypted: whoever has this file reads them "
        "without the passphrase"
    )
    notes = (text,) if disk.encryption else ()
    return Content(compressed=fact, plaintext=plain[skipped : skipped + SECTOR_SIZE], notes=notes)

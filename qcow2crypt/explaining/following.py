"""``explain``: follow one byte from the guest's disk to the file, or from the file to the guest.

Joins the parts: tables say where (``descent``, ``filemap``), the textbook decrypts
(``decryption``).  A passphrase is asked for only when the layer that has the byte is encrypted
with legacy AES, and everything that needs none is told without it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from qcow2crypt.errors import ArgumentError, FormatError, UnsupportedFeatureError
from qcow2crypt.explaining.content import Content, content_of
from qcow2crypt.explaining.descent import LayerDisk
from qcow2crypt.explaining.facts import Explanation, LayerStep
from qcow2crypt.explaining.filemap import Place, region_at
from qcow2crypt.explaining.regions import GUEST_KINDS, Claim, RegionKind
from qcow2crypt.explaining.tableplaces import EntryPlace, entry_at
from qcow2crypt.image import check_encrypt_format
from qcow2crypt.image.chain import Layer, open_files
from qcow2crypt.image.hostfile import Source
from qcow2crypt.image.names import LayerOptions
from qcow2crypt.image.policy import DEFAULT, External
from qcow2crypt.image.qcow2.header import INCOMPAT_KNOWN
from qcow2crypt.image.qcow2.structure import Structure
from qcow2crypt.image.secrets import LayerSecret, secrets_by_layer
from qcow2crypt.secret import Secret
from qcow2crypt.units import SECTOR_SIZE

if TYPE_CHECKING:
    from qcow2crypt.image.qcow2.reader import WrongIv

_OFFSET_MAX = 2**63 - 1


class Question(NamedTuple):
    """What to explain: one of ``offset``, ``sector`` and ``host_offset``; and how much to show."""

    offset: int | None = None
    sector: int | None = None
    host_offset: int | None = None
    snapshot: str | None = None
    steps: bool = False
    show_key: bool = False
    wrong_iv: WrongIv | None = None


def explain(
    source: Source,
    *,
    offset: int | None = None,
    sector: int | None = None,
    host_offset: int | None = None,
    secret: Secret = None,
    secrets: Mapping[str | int, Secret] | None = None,
    snapshot: str | None = None,
    steps: bool = False,
    show_key: bool = False,
    wrong_iv: WrongIv | None = None,
    format: str | None = None,  # noqa: A002 - the word of qemu-img
    external: External = DEFAULT,
    force_share: bool = False,
) -> Explanation:
    """Follow one byte of an image: tables, place, ciphertext, key, IV, CBC, plaintext.

    One of: ``offset`` a guest offset in bytes, ``sector`` the number of a guest sector (its first
    byte), ``host_offset`` an offset in the image file, which is followed back to the guest.
    ``secret``, ``secrets``, ``snapshot``, ``format``, ``external`` and ``force_share`` as in
    ``open``, but without a passphrase the answer stops at ciphertext and IV.  Images with LUKS are
    explained that far, too.

    ``show_key`` shows the key.  ``steps`` adds the rounds of AES in the block with the byte; each
    of them gives the key away, so it needs ``show_key``.  ``wrong_iv`` as in ``open``.

    Raises ArgumentError for an offset outside the disk or the file, and for questions that cannot
    be; else what ``open`` raises, and MappingError for a damaged table.
    """
    return explain_layers(
        source,
        secrets_by_layer(secret, secrets),
        Question(offset, sector, host_offset, snapshot, steps, show_key, wrong_iv),
        options=LayerOptions(format=format),
        external=external,
        force_share=force_share,
    )


def explain_layers(
    source: Source,
    secret_for: LayerSecret,
    question: Question,
    *,
    options: LayerOptions,
    external: External = DEFAULT,
    force_share: bool = False,
) -> Explanation:
    """As ``explain``, with options and passphrases for every layer.

    ``secret_for`` is called for the layer that has the byte, if it is encrypted, and may give None.
    """
    _check(question)
    if question.host_offset is not None:
        options = options._replace(no_backing=True)  # the way back is in one file
    files = open_files(source, options=options, external=external, force_share=force_share)
    try:
        if question.host_offset is not None:
            return _backwards(files.layers[0], question.host_offset, question, secret_for)
        return _forwards(files.layers, question, secret_for)
    finally:
        files.close()


def _check(question: Question) -> None:
    given = {
        name: value
        for name in ("offset", "sector", "host_offset")
        if (value := getattr(question, name)) is not None
    }
    if len(given) != 1:
        raise ArgumentError("explain one of offset, sector and host_offset, and no other")
    ((name, value),) = given.items()
    limit = _OFFSET_MAX // SECTOR_SIZE if name == "sector" else _OFFSET_MAX
    if not 0 <= value <= limit:
        raise ArgumentError(f"{name} {value} is not in 0 to {limit}")
    if question.host_offset is not None and question.snapshot is not None:
        raise ArgumentError(
            "host_offset and snapshot exclude each other: the way back finds every snapshot"
        )
    if question.steps and not question.show_key:
        raise ArgumentError(
            "the rounds of AES give the key away (the state before and after AddRoundKey differ by "
            "a round key, and from one round key follows the key): steps need show_key "
            "(--steps needs --show-key)"
        )


def _forwards(layers: Sequence[Layer], question: Question, secret_for: LayerSecret) -> Explanation:
    disk = LayerDisk(layers[0], question.snapshot)
    if question.sector is not None:
        offset, asked = question.sector * SECTOR_SIZE, f"guest sector {question.sector}"
    else:
        assert question.offset is not None  # noqa: S101 - _check
        offset, asked = question.offset, f"guest offset {question.offset:#x} ({question.offset})"
    if offset >= disk.size:
        last = f"its last sector is {disk.size // SECTOR_SIZE - 1}" if disk.size else "it is empty"
        raise ArgumentError(
            f"{asked} is behind the end of the disk of '{layers[0].file.name}', which has "
            f"{disk.size} bytes ({disk.size:#x}): {last}"
        )
    return _followed(layers, disk, offset, question, secret_for, asked=asked)


def _followed(
    layers: Sequence[Layer],
    disk: LayerDisk,
    offset: int,
    question: Question,
    secret_for: LayerSecret,
    *,
    asked: str,
) -> Explanation:
    """Down the layers to the one that has the byte, and what it has there."""
    steps: list[LayerStep] = []
    for layer in layers:
        _check_known(layer)
        disk = disk if layer.depth == 0 else LayerDisk(layer)
        with _naming(layer):
            found = disk.look_up(offset)
        steps.append(found.step)
        if found.step.kind != "unallocated":
            break
    with _naming(disk.layer):
        content: Content = content_of(disk, found, question, secret_for)
    return Explanation(
        image=layers[0].file.name,
        asked=asked,
        layers=tuple(steps),
        byte=None if content.plaintext is None else content.plaintext[offset % SECTOR_SIZE],
        **content._asdict(),
    )


@contextmanager
def _naming(layer: Layer) -> Iterator[None]:
    """Say in an error of the format which backing file it is about."""
    try:
        yield
    except FormatError as error:
        if layer.depth:
            error.in_file(f"backing file '{layer.file.name}'")
        raise


def _check_known(layer: Layer) -> None:
    """LUKS can be followed as far as the tables go; an unknown feature changes what they mean."""
    check_encrypt_format(layer)
    structure = layer.structure
    if isinstance(structure, Structure):
        unknown = structure.header.incompatible_features & ~INCOMPAT_KNOWN
        if unknown:
            names = ", ".join(structure.unknown_features())
            raise UnsupportedFeatureError(
                f"unknown incompatible features: {names}",
                f"in '{layer.file.name}'; 'qcow2crypt info' describes the image",
            )


def _backwards(
    layer: Layer, host_offset: int, question: Question, secret_for: LayerSecret
) -> Explanation:
    """What lies at a host offset, and the guest byte there, if it is one."""
    _check_known(layer)
    place = region_at(layer.file, layer.structure, host_offset)
    asked = f"host offset {host_offset:#x} ({host_offset})"
    notes = list(place.problems)
    if layer.data_file is not None:
        notes.append(
            f"the guest's data lies in '{layer.data_file.name}', each byte at its guest offset; "
            "this file has the tables"
        )
    bare = Explanation(image=layer.file.name, asked=asked, place=place, notes=tuple(notes))
    guest = _guest_byte(place)
    if guest is None:
        entry = entry_at(place, layer.structure)
        return bare if entry is None else _with_entry(bare, layer, entry)
    claim, offset = guest
    disk = LayerDisk(layer, claim.snapshot)
    if offset >= disk.size:
        text = (
            f"the guest cannot see this byte: guest offset {offset:#x} is behind the end of the "
            f"disk of {disk.size} bytes, in the rest of its last cluster"
        )
        return replace(bare, notes=(*notes, text))
    answer = _followed([layer], disk, offset, question, secret_for, asked=asked)
    if claim.kind is RegionKind.COMPRESSED:
        notes.append(
            "a compressed byte belongs to its whole cluster: shown is the first sector of it"
        )
    return replace(answer, place=place, notes=(*notes, *answer.notes))


def _with_entry(bare: Explanation, layer: Layer, entry: EntryPlace) -> Explanation:
    """What a table entry says, without the bytes that it leads to."""
    disk = LayerDisk(layer, entry.snapshot)
    if entry.guest_offset >= disk.size:
        text = f"{entry.table} entry {entry.number}, which maps nothing: the disk ends before"
        return replace(bare, notes=(*bare.notes, text))
    try:
        step = disk.look_up(entry.guest_offset).step
    except FormatError as error:
        return replace(bare, notes=(*bare.notes, str(error)))
    return replace(bare, layers=(step,), notes=(*bare.notes, entry.note))


def _guest_byte(place: Place) -> tuple[Claim, int] | None:
    """A guest offset that the place belongs to; of the active disk if there is one."""
    claims = [claim for claim in place.region.claims if claim.kind in GUEST_KINDS]
    claims.sort(key=lambda claim: claim.snapshot is not None)
    for claim in claims:
        if claim.guest_offset is not None:
            inside = place.host_offset - claim.host_offset
            skipped = 0 if claim.kind is RegionKind.COMPRESSED else inside
            return claim, claim.guest_offset + skipped
    return None

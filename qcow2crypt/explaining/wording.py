"""An explanation in words, as sections of lines, for a terminal and for HTML alike.

Every line says the same with colours and without.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from textwrap import wrap

from qcow2crypt.explaining.facts import (
    Bits,
    Explanation,
    IvFact,
    KeyFact,
    LayerStep,
    Position,
    TableEntry,
)
from qcow2crypt.explaining.lines import LABEL, WIDTH, Line, Part, as_ascii, dump, prose, row
from qcow2crypt.explaining.placewording import place_lines
from qcow2crypt.units import BLOCK_SIZE, SECTOR_SIZE


@dataclass(frozen=True, slots=True)
class Section:
    """A title and its lines."""

    title: str
    lines: tuple[Line, ...]


def sections(found: Explanation) -> Iterator[Section]:
    """An explanation in the order of the way that it follows."""
    parts = [("In the file", place_lines(found.place)), ("On the guest's disk", _guest(found))]
    parts += [(_layer_title(step), _layer(step)) for step in found.layers]
    parts += [
        ("The compressed cluster", _compressed(found)),
        ("The sector as it stands in the file", _stored(found)),
        ("The key", _key(found.key)),
        ("The IV", _iv(found.iv)),
        ("CBC, block by block", _chain(found)),
        ("Inside AES", _steps(found)),
        ("The guest's sector", _plaintext(found)),
        ("The byte", _byte(found)),
        ("To know", (line for note in found.notes for line in prose(note))),
    ]
    for title, lines in parts:
        if told := tuple(lines):
            yield Section(title, told)


def as_text(found: Explanation) -> str:
    """All of it without colours."""
    lines = [f"{found.image}: {found.asked}"]
    for section in sections(found):
        lines += ["", section.title]
        lines += ["".join(part.text for part in line).rstrip() for line in section.lines]
    return "\n".join(lines)


def _guest(found: Explanation) -> Iterator[Line]:
    where = found.position
    if where is None:
        return
    inside, block = where.byte_in_sector, where.byte_in_block
    yield from row("guest offset", f"{where.offset:#x}", f"byte {where.offset} of the disk")
    yield from row(
        "sector", str(where.sector), f"= {where.offset} / {SECTOR_SIZE}; byte {inside} of it"
    )
    yield from row("block", str(where.block), f"= {inside} / {BLOCK_SIZE}; byte {block} of it")


def _layer_title(step: LayerStep) -> str:
    what = "The image" if not step.depth else f"Backing file, depth {step.depth}"
    snapshot = f", snapshot {step.snapshot}" if step.snapshot else ""
    return f"{what}: {step.file}{snapshot}"


def _layer(step: LayerStep) -> Iterator[Line]:
    secret = {None: "not encrypted", "aes": "legacy AES", "luks": "LUKS"}[step.encryption]
    yield from row("format", step.format, f"{secret}, a disk of {step.virtual_size} bytes")
    yield from _clusters(step.position)
    for entry in step.entries:
        yield from _entry(entry)
    yield from row("so it is", step.kind, step.why, "mark")
    if step.host_offset is not None:
        where = f"in the data file {step.data_file}"
        if step.data_file == step.file:
            where = f"host sector {step.host_offset // SECTOR_SIZE}"
        yield from row("host offset", f"{step.host_offset:#x}", where)


def _clusters(where: Position) -> Iterator[Line]:
    if where.cluster_size is None or where.byte_in_cluster is None:
        return
    says = f"= {where.offset} / {where.cluster_size}; byte {where.byte_in_cluster} of it"
    yield from row("guest cluster", str(where.cluster), says)
    if where.subcluster is not None:
        small = where.cluster_size // 32
        says = f"= {where.byte_in_cluster} / {small}, of 32 in the cluster"
        yield from row("subcluster", str(where.subcluster), says)
    says = f"= {where.cluster} / {where.l2_entries}, the entries of an L2 table"
    yield from row("L1 index", str(where.l1_index), says)
    yield from row("L2 index", str(where.l2_index), "what is left over")


def _entry(entry: TableEntry) -> Iterator[Line]:
    label = f"{entry.table} entry {entry.index}"
    if entry.table == "L2 subclusters":
        label = "its subclusters"
    yield from row(label, f"{entry.raw:#018x}", f"at host offset {entry.host_offset:#x}")
    for bits in entry.bits:
        yield from _bits(bits)


def _bits(bits: Bits) -> Iterator[Line]:
    places = f"bit {bits.high}" if bits.high == bits.low else f"bits {bits.high}-{bits.low}"
    value = f"{bits.value:#x}" if bits.value > 9 else str(bits.value)
    head = f"    {places:<11}{bits.name:<14}"
    says = wrap(bits.meaning, WIDTH - len(head) - 1 - max(len(value), 10))
    yield (Part(head, "label"), Part(f"{value:<10}", "number"), Part(f" {says[0] if says else ''}"))
    for line in says[1:]:
        yield (Part(" " * (len(head) + 11)), Part(line))


def _compressed(found: Explanation) -> Iterator[Line]:
    fact = found.compressed
    if fact is None:
        return
    yield from row("host offset", f"{fact.host_offset:#x}", f"{fact.length} bytes at most")
    yield from row("it begins with", fact.begins[:BLOCK_SIZE].hex(" "), "", "plain")
    yield from row("it unpacks by", fact.algorithm, "to one guest cluster")
    says = f"the cluster begins at guest offset {fact.cluster_offset:#x}"
    yield from row("the sector begins", f"{fact.skipped} bytes", f"inside: {says}")


def _stored(found: Explanation) -> Iterator[Line]:
    """With the whole chain, only the blocks that it tells of."""
    if found.stored is None or found.position is None:
        return
    step = found.layers[-1]
    start = (step.host_offset or 0) - found.position.byte_in_sector
    style = "cipher" if step.encryption else "plain"
    yield from row("host offset", f"{start:#x}", "encrypted" if step.encryption else "in clear")
    block = found.position.block
    only = {0, block - 1, block, block + 1} if found.blocks else None
    yield from dump(found.stored, block, style, only)


def _key(fact: KeyFact | None) -> Iterator[Line]:
    if fact is None:
        return
    length = fact.passphrase_length
    if fact.bytes_ignored:
        says = f"the first 16 are the key; {fact.bytes_ignored} do not count"
    elif fact.zeros_added:
        says = f"filled up with {fact.zeros_added} zero bytes to 16"
    else:
        says = "they are the key as they are"
    yield from row("passphrase", f"{length} byte{'s' * (length != 1)}", says)
    if fact.key is None:
        yield from row("key", "not shown", "--show-key (show_key=True) shows it")
    else:
        yield from row("key", fact.key.hex(" "), "", "key")


def _iv(fact: IvFact | None) -> Iterator[Line]:
    if fact is None:
        return
    source = "guest offset / 512" if fact.unit == "guest sector" else "host offset / 512"
    yield from row("number", str(fact.number), f"= {fact.number:#x}")
    yield from row("it is the", fact.unit, f"= {source}")
    if fact.unit == "guest sector":
        says = "in every snapshot, overlay and rewrite"
        yield from row("the same IV", "for this sector", says)
    else:
        yield from row("the same IV", "for this place", "in the file, whatever lies there")
    says = {
        "plain64": "64 bits, low byte first, then 8 zero bytes",
        "plain": "low 32 bits, low byte first, then zero bytes",
    }.get(fact.generator.partition(":")[0], "")
    yield from row("rule", fact.generator, says)
    if fact.iv is None:
        yield from row("IV", "not known", "this rule needs the key")
    else:
        yield from row("IV", fact.iv.hex(" "), "", "iv")


def _chain(found: Explanation) -> Iterator[Line]:
    """The block with the byte, and block 0, where the IV comes in."""
    if not found.blocks or found.position is None:
        return
    for index in sorted({0, found.position.block}):
        block = found.blocks[index]
        if index:
            yield ()
        before = f"ciphertext {index - 1}" if index else "the IV"
        yield from row(f"ciphertext block {index}", block.ciphertext.hex(" "), "", "cipher")
        yield from row("AES decrypts it to", block.decrypted.hex(" "))
        yield from row(f"XOR {before}", block.xor_with.hex(" "), "", "cipher" if index else "iv")
        yield from row(f"is plaintext block {index}", block.plaintext.hex(" "), "", "plain")
        yield from row("", "  ".join(as_ascii(block.plaintext)), "", "plain")
    yield (Part("  each block but the first is XORed with the ciphertext block before it"),)


def _steps(found: Explanation) -> Iterator[Line]:
    if not found.steps or found.position is None:
        return
    text = (
        f"ciphertext block {found.position.block}, decrypted in the steps of FIPS-197, appendix C "
        "(equivalent inverse cipher).  istart: a round begins; is_box: InvSubBytes; is_row: "
        "InvShiftRows; im_col: InvMixColumns; ik_sch: the round key, which is XORed."
    )
    for line in wrap(text, WIDTH - 2):
        yield (Part(f"  {line}"),)
    styles = {"ik_sch": "key", "iinput": "cipher", "ioutput": "number"}
    for step in found.steps:
        head = f"  round {step.round:2} {step.step}"
        style = styles.get(step.step, "")
        yield (Part(f"{head:<{LABEL + 2}}", "label"), Part(step.state.hex(" "), style))


def _plaintext(found: Explanation) -> Iterator[Line]:
    if found.plaintext is not None and found.position and (found.blocks or found.compressed):
        yield from dump(found.plaintext, found.position.block, "plain")


def _byte(found: Explanation) -> Iterator[Line]:
    if found.byte is None or found.position is None:
        return
    value = found.byte
    shown = f", '{chr(value)}'" if 0x20 <= value < 0x7F else ""
    says = f"= {value}{shown}, at guest offset {found.position.offset:#x}"
    yield from row("value", f"0x{value:02x}", says, "plain")

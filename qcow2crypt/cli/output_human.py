"""Results as text for people, where it can be in the form that qemu-img prints.

Knows dictionaries, extents and how it stands with engines.

The dictionary is what ``ImageInfo.as_dict`` gives.  Every text that comes from an image goes
through ``printable``: a hostile file name reaches no terminal as it is.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from qcow2crypt.cli.sizes import format_size
from qcow2crypt.cli.terminal import printable

if TYPE_CHECKING:
    from qcow2crypt.cli.mapping import MapEntry
    from qcow2crypt.engines import EngineStatus, KernelStatus, Status
    from qcow2crypt.tasks.checking import CheckResult


def info_lines(info: Mapping[str, Any]) -> Iterator[str]:
    """The answer of ``info``, line by line."""
    yield f"image: {printable(info['filename'])}"
    yield f"file format: {info['format']}"
    size = info.get("virtual-size")
    if size is not None:
        yield f"virtual size: {format_size(size)} ({size} bytes)"
    if info.get("actual-size") is not None:
        yield f"disk size: {format_size(info['actual-size'])}"
    if info.get("encrypted"):
        yield "encrypted: yes"
    if "cluster-size" in info:
        yield f"cluster_size: {info['cluster-size']}"
    if info.get("dirty-flag"):
        yield "cleanly shut down: no"
    yield from _backing_lines(info)
    yield from snapshot_lines(info.get("snapshots") or ())
    specific = info.get("format-specific")
    if specific:
        yield "Format specific information:"
        yield from nested_lines(specific.get("data", {}), 1)
    yield from _remark_lines(info.get("qcow2crypt", {}))


_ENCRYPTION = {
    "aes": "AES-128-CBC, legacy: qemu-system refuses it, qemu-img and qcow2crypt convert it",
    "luks": "LUKS, version 1",
}


def _remark_lines(remarks: Mapping[str, Any]) -> Iterator[str]:
    """What qemu-img does not say: what the encryption is, and what cannot be read and why."""
    encryption = remarks.get("encryption")
    lines = [] if encryption is None else [f"encryption: {_ENCRYPTION.get(encryption, encryption)}"]
    lines += [f"note: {finding}" for finding in remarks.get("findings", ())]
    lines += [f"cannot be read yet: {reason}" for reason in remarks.get("why-unreadable", ())]
    if lines:
        yield "Remarks of qcow2crypt:"
    for line in lines:
        yield f"    {printable(line)}"


def _backing_lines(info: Mapping[str, Any]) -> Iterator[str]:
    name = info.get("backing-filename")
    if name is None:
        return
    full = info.get("full-backing-filename")
    actual = f" (actual path: {printable(full)})" if full not in (None, name) else ""
    yield f"backing file: {printable(name)}{actual}"
    if info.get("backing-filename-format"):
        yield f"backing file format: {printable(info['backing-filename-format'])}"


def snapshot_lines(snapshots: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    """The table of ``snapshot -l``, which ``info`` has, too."""
    heading = True
    for snapshot in snapshots:
        if heading:
            heading = False
            yield "Snapshot list:"
            yield f"{'ID':<10}{'TAG':<17}{'VM SIZE':>8}{'DATE':>20}{'VM CLOCK':>13}{'ICOUNT':>11}"
        yield _snapshot_line(snapshot)


def _snapshot_line(snapshot: Mapping[str, Any]) -> str:
    date = _local_time(snapshot.get("date-sec", 0))
    seconds = snapshot.get("vm-clock-sec", 0)
    milliseconds = snapshot.get("vm-clock-nsec", 0) // 1_000_000
    clock = f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}.{milliseconds:03}"
    icount = snapshot.get("icount")
    return (
        f"{printable(snapshot['id']):<9} {printable(snapshot['name']):<16} "
        f"{format_size(snapshot.get('vm-state-size', 0)):>8} {date:>19} {clock:>12} "
        f"{'' if icount is None else icount:>10}"
    ).rstrip()


def _local_time(seconds: int) -> str:
    try:
        return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))
    except (OverflowError, ValueError, OSError):
        return "(not a date)"


def nested_lines(value: Any, depth: int) -> Iterator[str]:  # noqa: ANN401 - any JSON value
    """A dictionary or list, four blanks deeper for each level, as qemu-img prints it."""
    blanks = "    " * depth
    if isinstance(value, Mapping):
        pairs = [(str(key).replace("-", " "), item) for key, item in value.items()]
    else:
        pairs = [(f"[{number}]", item) for number, item in enumerate(value)]
    for name, item in pairs:
        if isinstance(item, (Mapping, list, tuple)):
            yield f"{blanks}{printable(name)}:"
            yield from nested_lines(item, depth + 1)
        else:
            yield f"{blanks}{printable(name)}: {scalar(item)}"


def scalar(value: object) -> str:
    """One value: true and false as in JSON, text safe to show."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return printable(str(value))


def map_lines(entries: Iterable[MapEntry], names: Sequence[str]) -> Iterator[str]:
    """The table of ``map``: what is stored, and where.  Offsets in hexadecimal, 0 plain.

    ``names`` are the files of the layers, the image first.

    The columns are qemu-img's; where it refuses, a word behind the file name says why the bytes
    at that offset are not the guest's own.
    """
    yield f"{'Offset':<16}{'Length':<16}{'Mapped to':<16}File"
    shown = [printable(name) for name in names]
    for entry in entries:
        if not entry.data:
            continue
        note = " (encrypted)" if entry.encrypted else " (compressed)" if entry.compressed else ""
        where = "-" if entry.host_offset is None else _hex(entry.host_offset)
        place = f"{_hex(entry.start):<16}{_hex(entry.length):<16}{where:<16}"
        yield f"{place}{shown[entry.depth]}{note}"


def check_lines(result: CheckResult) -> Iterator[str]:
    """The answer of ``check``, in the words of qemu-img."""
    if result.leaks_fixed or result.corruptions_fixed:
        yield "The following inconsistencies were found and repaired:"
        yield ""
        yield f"    {result.leaks_fixed} leaked clusters"
        yield f"    {result.corruptions_fixed} corruptions"
        yield ""
        yield "Double checking the fixed image now..."
    if not (result.corruptions or result.leaks or result.check_errors):
        yield "No errors were found on the image."
    if result.corruptions:
        yield ""
        yield f"{result.corruptions} errors were found on the image."
        yield "Data may be corrupted, or further writes to the image may corrupt it."
    if result.leaks:
        yield ""
        yield f"{result.leaks} leaked clusters were found on the image."
        yield "This means waste of disk space, but no harm to data."
    if result.check_errors:
        yield ""
        yield f"{result.check_errors} internal errors have occurred during the check."
    total, allocated = result.total_clusters, result.allocated_clusters
    if total and allocated:
        yield (
            f"{allocated}/{total} = {allocated * 100 / total:.2f}% allocated, "
            f"{result.fragmented_clusters * 100 / allocated:.2f}% fragmented, "
            f"{result.compressed_clusters * 100 / allocated:.2f}% compressed clusters"
        )
    if result.image_end_offset:
        yield f"Image end offset: {result.image_end_offset}"


def engines_lines(status: Status) -> Iterator[str]:
    """The answer of ``engines``: what is used and why, then all there is."""
    kernel = f", kernel {status.kernel}" if status.kernel else ""
    yield f"used: {printable(status.used) or 'none'}{kernel}"
    yield f"why: {printable(status.why)}"
    yield "engines:"
    for engine in status.engines:
        yield f"    {engine.name:<16}{_answer(engine, engine.summary)}"
    if status.kernels:
        yield "kernels of the engine native:"
    for each in status.kernels:
        needs = f"needs {', '.join(each.needs)}" if each.needs else "runs everywhere"
        yield f"    {each.name:<16}{_answer(each, needs)}"
    if status.features:
        yield "processor features that these kernels ask for:"
    for feature in status.features:
        yield f"    {feature.name:<16}{'yes' if feature.present else 'no'}"


def _answer(row: EngineStatus | KernelStatus, about: str) -> str:
    return f"works    {about}" if row.available else f"no       {printable(row.reason)}"


def _hex(number: int) -> str:
    return f"{number:#x}" if number else "0"

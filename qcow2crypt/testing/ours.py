"""Our library carries out a case, and reads one."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, cast

import qcow2crypt
from qcow2crypt.errors import UnsupportedFeatureError
from qcow2crypt.image.qcow2.fresh.compressing import compressor
from qcow2crypt.testing.case import (
    Case,
    Discard,
    Layer,
    Operation,
    Resize,
    Snapshot,
    Write,
    WriteZeroes,
)
from qcow2crypt.testing.recording import Journal, RecordingFile

if TYPE_CHECKING:
    from qcow2crypt.image.qcow2.edit.editor import Qcow2Editor


def write_case(case: Case, folder: Path) -> None:
    """Make the images of a case with our writer.

    Raises UnsupportedFeatureError for what we do not write: images of version qcow, and compressed
    clusters in encrypted images; else what the library raises.
    """
    _refuse_what_we_do_not_write(case)
    for index, layer in enumerate(case.layers):
        if layer.passphrase is not None:
            (folder / case.secret_name(index)).write_bytes(layer.passphrase.encode())
        _create(case, index, folder, case.file_name(index))
        if not layer.operations:
            continue
        below = Case(case.layers[: index + 1])
        with open_case(below, folder, "r+") as image:
            for operation in layer.operations:
                _do(image, layer, operation)


def modules_at_work(folder: Path) -> list[str]:
    """Our modules that are loaded after images were written and read in a folder."""
    operations = (Write(0, 512), Snapshot("create", "a"), Resize(1024), Discard(0, 512))
    layer = Layer(512, cluster_size=512, passphrase="x", operations=operations)
    packed = Layer(512, cluster_size=512, operations=(Write(0, 512, compressed=True),))
    case = Case((packed, layer))
    write_case(case, folder)
    read_case(case, folder)
    record_top(case, folder)
    return sorted(name for name in sys.modules if name.startswith("qcow2crypt."))


def record_top(case: Case, folder: Path) -> Journal | None:
    """Every write to the file of the top image while our writer changes it, in order.

    What is under it is in the folder, as ``write_case`` leaves it.  None where the image is more
    than one file, or of another format than qcow2.  Errors as ``write_case``.
    """
    from qcow2crypt.image.hostfile import HostFile
    from qcow2crypt.image.qcow2.edit.editor import Qcow2Editor

    if case.top.format != "qcow2" or case.top.data_file:
        return None
    path = folder / "recorded"
    _create(case, len(case.layers) - 1, folder, path.name)
    content = path.read_bytes()
    path.unlink()
    file = RecordingFile(content)
    under = Case(case.layers[:-1])
    backing = open_case(under, folder) if under.layers else None
    secret = case.top.passphrase
    with Qcow2Editor(HostFile(file, writable=True), secret=secret, backing=backing) as editor:
        for operation in case.top.operations:
            _do(editor, case.top, operation)
    return Journal(content, file.events)


def open_case(
    case: Case, folder: Path, mode: str = "r", snapshot: str | None = None
) -> qcow2crypt.Image:
    """The top image of a case, opened by our library; ``snapshot`` is a name."""
    secrets = cast("Mapping[str | int, str]", case.secrets)
    return qcow2crypt.open(
        folder / case.image,
        mode=mode,
        format=case.top.format,
        secrets=secrets,
        snapshot=snapshot,
    )


def read_case(case: Case, folder: Path, snapshot: str | None = None) -> bytes:
    """The guest disk, or what a snapshot kept of it, by our reader."""
    with open_case(case, folder, snapshot=snapshot) as image:
        return image.readall()


def _refuse_what_we_do_not_write(case: Case) -> None:
    for layer in case.layers:
        if layer.format == "qcow":
            raise UnsupportedFeatureError("writing images of qcow version 1")
        packed = any(isinstance(one, Write) and one.compressed for one in layer.operations)
        if packed and layer.passphrase is not None:
            raise UnsupportedFeatureError("writing compressed clusters into encrypted images")


def _create(case: Case, index: int, folder: Path, name: str) -> None:
    layer = case.layers[index]
    path = folder / name
    if layer.format == "raw":
        qcow2crypt.create(path, layer.size, format="raw")
        return
    qcow2crypt.create(
        path,
        layer.size,
        secret=layer.passphrase,
        options=_options(case, index, folder),
        open_backing=False,
    )


def _options(case: Case, index: int, folder: Path) -> qcow2crypt.Qcow2Options:
    layer = case.layers[index]
    data_file = str(folder / case.data_name(index)) if layer.data_file else None
    return qcow2crypt.Qcow2Options(
        version=layer.version,
        cluster_size=layer.cluster_size,
        encryption=None if layer.passphrase is None else "aes",
        lazy_refcounts=layer.lazy_refcounts,
        refcount_bits=layer.refcount_bits,
        compression_type=layer.compression_type,
        extended_l2=layer.extended_l2,
        backing_file=case.file_name(index - 1) if index else None,
        backing_format=case.layers[index - 1].format if index else None,
        data_file=data_file,
    )


def _do(image: qcow2crypt.Image, layer: Layer, operation: Operation) -> None:
    if isinstance(operation, Write):
        data = operation.fill.data(operation.length)
        if operation.compressed:
            _write_compressed(image, layer, data, operation.offset)
        else:
            image.pwrite(data, operation.offset)
    elif isinstance(operation, WriteZeroes):
        image.write_zeroes(operation.offset, operation.length, unmap=operation.unmap)
    elif isinstance(operation, Discard):
        image.discard(operation.offset, operation.length)
    elif isinstance(operation, Resize):
        image.truncate(operation.size)
    else:
        actions = {
            "create": image.create_snapshot,
            "apply": image.apply_snapshot,
            "delete": image.delete_snapshot,
        }
        actions[operation.action](operation.name)


def _write_compressed(image: qcow2crypt.Image, layer: Layer, data: bytes, offset: int) -> None:
    """As ``convert -c -n`` does it: a cluster that gets no shorter is stored as it is."""
    editor: Qcow2Editor = image  # type: ignore[assignment]
    options = qcow2crypt.Qcow2Options(compression_type=layer.compression_type)
    shorter = compressor(options)
    size = layer.cluster_size
    for start in range(0, len(data), size):
        cluster = data[start : start + size]
        stored = shorter(cluster.ljust(size, b"\0"))
        if len(stored) < size:
            editor.write_compressed(stored, offset + start)
        else:
            editor.pwrite(cluster, offset + start)

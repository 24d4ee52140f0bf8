"""A case as commands: what qemu-img and qemu-io are told, and the same as a shell script.

All file names are relative: the commands are run in an empty folder.  Passphrases go into files.
The commands need no option of a QEMU newer than 6.2, and of the shell printf, seq, head and, for
random bytes, python3.  Knows no files and runs nothing.
Follows the manual qemu-img(1), and the help of qemu-io.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from typing import Literal, TypeAlias

from qcow2crypt.testing.case import (
    Case,
    Discard,
    Fill,
    Layer,
    Operation,
    Resize,
    Snapshot,
    Write,
    WriteZeroes,
)
from qcow2crypt.units import BLOCK_SIZE


@dataclass(frozen=True, slots=True)
class MakeFile:
    """A file with ``content``; ``shell`` writes the same to its standard output."""

    name: str
    content: bytes
    shell: str


@dataclass(frozen=True, slots=True)
class Call:
    """One call of a program of QEMU, without its folder."""

    program: Literal["qemu-img", "qemu-io"]
    words: tuple[str, ...]


Step: TypeAlias = "MakeFile | Call"


def escape(value: str) -> str:
    """Double the commas: a single one would end the option."""
    return value.replace(",", ",,")


def steps(case: Case) -> tuple[Step, ...]:
    """Everything that makes the images of a case, in order."""
    return tuple(_steps(case))


def calls(case: Case) -> tuple[Call, ...]:
    """The calls of programs alone."""
    return tuple(step for step in steps(case) if isinstance(step, Call))


def shell_text(case: Case, *more: Call) -> str:
    """The steps as a shell script, with more calls at its end; run it in an empty folder."""
    lines = ["#!/bin/sh", "set -e"]
    for step in (*steps(case), *more):
        if isinstance(step, MakeFile):
            lines.append(f"{step.shell} > {step.name}")
        else:
            lines.append(shlex.join((step.program, *step.words)))
    return "\n".join(lines) + "\n"


def secret_words(case: Case, index: int | None = None) -> tuple[str, ...]:
    """The ``--object`` words for a layer and what is under it; None is the top."""
    count = len(case.layers) if index is None else index + 1
    return tuple(
        word
        for number in range(count)
        if case.layers[number].passphrase is not None
        for word in ("--object", f"secret,id=s{number},file={case.secret_name(number)}")
    )


def image_options(case: Case, index: int | None = None) -> str:
    """What ``--image-opts`` takes for a layer with those under it; None is the top."""
    pairs = []
    prefix = ""
    for number in range((len(case.layers) if index is None else index + 1) - 1, -1, -1):
        layer = case.layers[number]
        pairs.append(f"{prefix}driver={layer.format}")
        pairs.append(f"{prefix}file.filename={case.file_name(number)}")
        if layer.passphrase is not None:
            pairs.append(f"{prefix}encrypt.key-secret=s{number}")
        prefix += "backing."
    return ",".join(pairs)


def convert_call(case: Case, target: str, snapshot: str | None = None) -> Call:
    """The call that writes the guest disk, or what a snapshot kept of it, to a raw file."""
    words = ["convert", *secret_words(case)]
    if snapshot is not None:
        words += ["-l", f"snapshot.name={snapshot}"]
    return Call("qemu-img", (*words, "--image-opts", image_options(case), "-O", "raw", target))


def check_call(case: Case) -> Call:
    """The call that holds the tables of the top image against each other."""
    words = ("check", "--output=json", *secret_words(case), "--image-opts", image_options(case))
    return Call("qemu-img", words)


def _steps(case: Case) -> Iterator[Step]:
    fills: dict[tuple[Fill, int], str] = {}
    for index, layer in enumerate(case.layers):
        if layer.passphrase is not None:
            name, content = case.secret_name(index), layer.passphrase.encode()
            yield MakeFile(name, content, f"printf %s {shlex.quote(layer.passphrase)}")
        yield _create(case, index)
        for together, run in groupby(layer.operations, _by_qemu_io):
            if not together:
                yield from (_by_qemu_img(case, index, operation) for operation in run)
                continue
            commands = []
            for operation in run:
                source = ""
                if isinstance(operation, Write) and operation.fill.kind != "pattern":
                    key = (operation.fill, operation.length)
                    if key not in fills:
                        fills[key] = f"fill{len(fills)}"
                        content = operation.fill.data(operation.length)
                        yield MakeFile(fills[key], content, _filling(*key))
                    source = fills[key]
                commands += ["-c", _io_command(operation, source)]
            words = (*secret_words(case, index), *commands)
            yield Call("qemu-io", (*words, "--image-opts", image_options(case, index)))


def _create(case: Case, index: int) -> Call:
    layer = case.layers[index]
    words = ["create", "-q"]
    if layer.passphrase is not None:
        words += ["--object", f"secret,id=s{index},file={case.secret_name(index)}"]
    words += ["-f", layer.format]
    pairs = [f"{key}={value}" for key, value in _options(case, index, layer).items()]
    words += ["-o", ",".join(pairs)] if pairs else []
    if index:
        # -u: the backing file may need a passphrase that is not asked for here.
        words += ["-u", "-b", case.file_name(index - 1), "-F", case.layers[index - 1].format]
    return Call("qemu-img", (*words, case.file_name(index), str(layer.size)))


def _options(case: Case, index: int, layer: Layer) -> dict[str, str]:
    """What ``-o`` is told: only what is not the default."""
    usual = Layer(layer.size)
    wanted: dict[str, str] = {}
    if layer.version == 2:
        wanted["compat"] = "0.10"
    if layer.cluster_size != usual.cluster_size:
        wanted["cluster_size"] = str(layer.cluster_size)
    if layer.refcount_bits != usual.refcount_bits:
        wanted["refcount_bits"] = str(layer.refcount_bits)
    if layer.extended_l2:
        wanted["extended_l2"] = "on"
    if layer.compression_type != usual.compression_type:
        wanted["compression_type"] = layer.compression_type
    if layer.lazy_refcounts:
        wanted["lazy_refcounts"] = "on"
    if layer.data_file:
        wanted["data_file"] = case.data_name(index)
    if layer.passphrase is not None:
        wanted |= {"encrypt.format": "aes", "encrypt.key-secret": f"s{index}"}
    return wanted


def _by_qemu_io(operation: Operation) -> bool:
    return isinstance(operation, (Write, WriteZeroes, Discard))


def _by_qemu_img(case: Case, index: int, operation: Operation) -> Call:
    opts = ("--image-opts", image_options(case, index))
    if isinstance(operation, Resize):
        words = ("resize", "-q", *secret_words(case, index), "--shrink", *opts)
        return Call("qemu-img", (*words, str(operation.size)))
    assert isinstance(operation, Snapshot)
    flag = {"create": "-c", "apply": "-a", "delete": "-d"}[operation.action]
    words = ("snapshot", *secret_words(case, index), flag, operation.name, *opts)
    return Call("qemu-img", words)


def _io_command(operation: Operation, source: str) -> str:
    """One command of qemu-io; ``source`` is the file that a write takes, if it takes one."""
    assert isinstance(operation, (Write, WriteZeroes, Discard))
    where = f"{operation.offset} {operation.length}"
    if isinstance(operation, Discard):
        return f"discard {where}"
    if isinstance(operation, WriteZeroes):
        return f"write -z {'-u ' * operation.unmap}{where}"
    fill = f"-s {source}" if source else f"-P {operation.fill.value}"
    return f"write {'-c ' * operation.compressed}{fill} {where}"


def _filling(fill: Fill, length: int) -> str:
    """The shell's way to the bytes of a fill."""
    if fill.kind == "random":
        made = f"random.Random({fill.value}).randbytes({length})"
        code = f"import random, sys; sys.stdout.buffer.write({made})"
        return f"python3 -c {shlex.quote(code)}"
    last = fill.value + -(-length // BLOCK_SIZE) - 1
    return f"seq -f %015.0f {fill.value} {last} | head -c {length}"

"""The images of the corpus before anybody looked at them: from recipes, damages and our own writer.

A draft is files in memory and what should become of them.  Runs qemu-img, qemu-io and our command
line in a folder that it makes; judges nothing.
"""

from __future__ import annotations

import hashlib
import itertools
import os
import re
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import corpus_sound
from source_tree import ROOT

from qcow2crypt.testing.case import Case
from qcow2crypt.testing.damage import SECRET, Damage, MapDamage, hostile, rows
from qcow2crypt.testing.dates import with_one_date


@dataclass(frozen=True, slots=True)
class Draft:
    """One image.

    ``expected``  None where the first reader has the word
    ``why``       why QEMU may do something else
    ``case``      how QEMU is asked about a chain of several images
    """

    group: str
    name: str
    about: str
    format: str
    files: Mapping[str, bytes] = field(repr=False)
    features: frozenset[str]
    commands: tuple[str, ...] = ()
    secrets: Mapping[int, bytes] = field(default_factory=dict, repr=False)
    expected: dict[str, Any] | None = None
    why: str = ""
    case: Case | None = None


def sound(recipe: corpus_sound.Recipe) -> Draft:
    """What the commands of a recipe make."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "disk").write_bytes(corpus_sound.disk())
        for depth, secret in recipe.secrets.items():
            (folder / f"s{depth}").write_bytes(secret)
        for command in recipe.commands:
            _run(command, folder)
        files = {name: with_one_date((folder / name).read_bytes()) for name in recipe.files}
    return Draft(
        "qemu",
        recipe.name,
        recipe.about,
        recipe.format,
        files,
        recipe.features,
        recipe.commands,
        recipe.secrets,
    )


def _run(command: str, folder: Path) -> None:
    """One command line in ``folder``."""
    words = shlex.split(command)
    if words[0] == "qcow2crypt":
        words[:1] = [sys.executable, "-m", "qcow2crypt"]
    tree = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        words,
        cwd=folder,
        check=False,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": tree},
    )
    if done.returncode or "failed" in done.stdout:
        raise RuntimeError(f"{command}\n{done.stdout}{done.stderr}")


def ours() -> Iterator[Draft]:
    """What our own command line makes of one disk, with every option."""
    content = corpus_sound.disk(12) + bytes(24 * 512) + b"tail" * 128
    cases = {
        "plain-512": "cluster_size=512",
        "plain-v2": "compat=0.10,cluster_size=1k",
        "plain-2M": "cluster_size=2M",
        "plain-refcount-1": "cluster_size=512,refcount_bits=1",
        "plain-refcount-64": "cluster_size=512,refcount_bits=64",
        "plain-lazy": "cluster_size=4k,lazy_refcounts=on",
        "plain-subclusters": "cluster_size=16k,extended_l2=on",
        "plain-preallocated": "cluster_size=512,preallocation=metadata",
        "aes-512": "cluster_size=512,AES",
        "aes-v2": "compat=0.10,cluster_size=1k,AES",
        "aes-4k": "cluster_size=4k,AES",
        "aes-refcount-8": "cluster_size=512,refcount_bits=8,AES",
        "aes-subclusters": "cluster_size=16k,extended_l2=on,AES",
        "aes-preallocated": "cluster_size=512,preallocation=metadata,AES",
    }
    for name, options in cases.items():
        yield _by_us(name, options, content, _secrets(options))
    for name, options in (
        ("plain-compressed", "cluster_size=4k"),
        ("plain-compressed-v2", "cluster_size=512,compat=0.10"),
    ):
        yield _by_us(name, options, content, _secrets(options), packed=True)


def _secrets(options: str) -> dict[int, bytes]:
    return {0: corpus_sound.SECRET} if options.endswith("AES") else {}


def _by_us(
    name: str, options: str, content: bytes, secrets: dict[int, bytes], *, packed: bool = False
) -> Draft:
    aes = bool(secrets)
    secret = "--target-secret-file s0 " if aes else ""
    words = options.replace("AES", "encrypt.format=aes")
    command = f"qcow2crypt convert -q {secret}{'-c ' if packed else ''}-f raw -O qcow2 "
    command += f"-o {words} disk image.qcow2"
    with tempfile.TemporaryDirectory() as folder_name:
        folder = Path(folder_name)
        (folder / "disk").write_bytes(content)
        for depth, secret_bytes in secrets.items():
            (folder / f"s{depth}").write_bytes(secret_bytes)
        _run(command, folder)
        files = {"image.qcow2": (folder / "image.qcow2").read_bytes()}
    features = {"aes" if aes else "plain", "version-2" if "0.10" in options else "version-3"}
    features |= {"compressed"} if packed else set()
    features |= {"subclusters"} if "extended_l2" in options else set()
    features |= {"preallocated"} if "preallocation" in options else set()
    return Draft(
        "ours",
        name,
        f"written by qcow2crypt with -o {options.replace(',AES', ', encrypted')}",
        "qcow2",
        files,
        frozenset(features),
        (command,),
        secrets,
        reads(content),
    )


def reads(content: bytes) -> dict[str, Any]:
    """The outcome of a disk that is read."""
    return {
        "result": "reads",
        "size": len(content),
        "sha256": hashlib.sha256(content).hexdigest(),
    }


def damaged() -> Iterator[Draft]:
    """The table of damages."""
    taken: set[str] = set()
    for row in rows():
        name = base = re.sub(r"[^a-z0-9]+", "-", row.title.lower()).strip("-")
        number = 1
        while name in taken:
            number += 1
            name = f"{base}-{number}"
        taken.add(name)
        version = f"version-{int.from_bytes(row.data[4:8], 'big')}"
        yield Draft(
            "damage",
            name,
            row.title,
            row.format,
            {f"image.{row.format}": row.data},
            frozenset({"damaged", version} & KNOWN),
            secrets={0: SECRET.encode()} if row.format == "qcow2" else {},
            expected=_expected(row),
            why=row.why,
        )


KNOWN = {"damaged", "version-1", "version-2", "version-3"}


def _expected(row: Damage) -> dict[str, Any]:
    """What the row says, in the words of a manifest."""
    if row.content is not None:
        return reads(row.content)
    found: dict[str, Any] = {"result": "refused"}
    if row.error is not None:
        found["error"] = row.error.__name__
    if isinstance(row, MapDamage):
        found |= {"result": "unreadable", "guest_offset": row.guest_offset}
    if row.where is not None:
        found["field"] = row.where[0]
        if row.where[1] is not None:
            found["offset"] = row.where[1]
    return found


def pointing() -> Iterator[Draft]:
    """Images whose tables point where they must not, and small files that claim much."""
    for title, data in (hostile.CROSSED | hostile.CLAIMS).items():
        yield Draft(
            "hostile",
            re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-"),
            title,
            "qcow2",
            {"image.qcow2": data},
            frozenset({"damaged", "hostile"}),
            why="a disk is read without its bitmaps and snapshots, which are judged when asked for"
            if "bitmap" in title or "snapshots" in title
            else "",
        )


def drafts(every: int = 1) -> Iterator[Draft]:
    """All images that can be made anew; or one in ``every``, spread over all of them."""
    yield from map(sound, corpus_sound.recipes()[::every])
    for made in (ours(), damaged(), pointing()):
        yield from itertools.islice(made, 0, None, every)

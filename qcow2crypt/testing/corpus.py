"""The corpus: tiny images, sound and damaged, each with what is known of it.

Reads manifests and unpacks files; knows nothing of the format of images.  A clone has the corpus
in its folder ``corpus``, whose README tells what the manifests say.  An installed package has none:
name its folder, by argument or as QCOW2CRYPT_CORPUS in the environment.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from qcow2crypt.errors import ArgumentError, SourceError

Result = Literal["reads", "refused", "unreadable"]
VARIABLE = "QCOW2CRYPT_CORPUS"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What becomes of an image when its whole disk is read.

    ``result``        ``reads``; ``refused``, when it is opened; ``unreadable``, when it is read
    ``size``, ``sha256``  of the guest disk, where it reads
    ``error``         the class in ``qcow2crypt.errors``; of another program, what it printed
    ``field``, ``offset``  which part of the file the error names, and its host offset
    ``guest_offset``  of an unreadable image, the first byte that cannot be read
    """

    result: Result
    size: int | None = None
    sha256: str | None = None
    error: str | None = None
    field: str | None = None
    offset: int | None = None
    guest_offset: int | None = None

    def as_dict(self) -> dict[str, Any]:
        """For JSON: only what is known."""
        return {key: value for key, value in asdict(self).items() if value is not None}


@dataclass(frozen=True, slots=True)
class Sighting:
    """What a program of another project was seen to do with an image.

    ``check``  what its checker counted: ``corruptions``, ``leaks``; None where it was not asked
    """

    program: str
    version: str
    outcome: Outcome
    check: Mapping[str, int] | None = None


@dataclass(frozen=True, slots=True)
class Packed:
    """One file of an entry: its name for programs, where it lies packed, and its digest."""

    name: str
    path: Path
    size: int
    sha256: str

    def read(self) -> bytes:
        """The unpacked bytes.  Raises SourceError if they are not what the manifest says."""
        try:
            data = gzip.decompress(self.path.read_bytes())
        except (OSError, EOFError) as error:
            raise SourceError(f"'{self.path}' cannot be unpacked: {error}") from error
        if len(data) != self.size or hashlib.sha256(data).hexdigest() != self.sha256:
            raise SourceError(f"'{self.path}' does not hold what its manifest says")
        return data


@dataclass(frozen=True, slots=True)
class Entry:
    """One image of the corpus.

    ``files``     the image first, then its backing files and its data file
    ``features``  words such as ``aes``, ``version-2``, ``snapshots``; ``corpus.features`` has all
    ``secrets``   passphrases by depth; 0 is the image itself
    ``expected``  what ``qcow2crypt.open`` and reading all must give
    ``seen``      what other programs did; ``why`` says why that is not the same, if it is not
    ``record``    more that was written down when the image was made
    """

    name: str
    group: str
    about: str
    format: str
    commands: tuple[str, ...]
    files: tuple[Packed, ...]
    features: frozenset[str]
    expected: Outcome
    seen: tuple[Sighting, ...]
    why: str = ""
    secrets: Mapping[int, bytes] = field(default_factory=dict, repr=False)
    record: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @property
    def data(self) -> bytes:
        """The bytes of the image file."""
        return self.files[0].read()

    @property
    def alone(self) -> bool:
        """Is one file all of it?"""
        return len(self.files) == 1

    @property
    def secret(self) -> bytes | None:
        """The passphrase of the image itself."""
        return self.secrets.get(0)

    def unpack(self, folder: str | os.PathLike[str]) -> Path:
        """Write all its files into ``folder``; gives the path of the image."""
        home = Path(folder)
        for file in self.files:
            (home / file.name).write_bytes(file.read())
        return home / self.files[0].name

    def __str__(self) -> str:
        return f"{self.group}/{self.name}"


def root(folder: str | os.PathLike[str] | None = None) -> Path:
    """The folder of the corpus.  Raises SourceError where there is none, and says what to do."""
    named = folder if folder is not None else os.environ.get(VARIABLE) or None
    found = Path(__file__).resolve().parents[2] / "corpus" if named is None else Path(named)
    if not (found / "manifest.schema.json").is_file():
        raise SourceError(
            f"there is no corpus in '{found}': it comes with the source of qcow2crypt, not with "
            f"the installed package; name its folder, or set {VARIABLE}"
        )
    return found


def entries(
    folder: str | os.PathLike[str] | None = None,
    *,
    group: str | None = None,
    features: frozenset[str] | set[str] = frozenset(),
    without: frozenset[str] | set[str] = frozenset(),
    result: Result | None = None,
) -> tuple[Entry, ...]:
    """The entries of the corpus in the order of their names.

    ``group``     only this group
    ``features``  only entries with all of these; ``without`` leaves out those with any of these
    ``result``    only what is expected to end so

    Raises SourceError where there is no corpus, or a manifest cannot be read, and ArgumentError
    for a feature that no entry has.
    """
    every = tuple(load(path) for path in manifests(folder))
    unknown = (features | without) - {word for entry in every for word in entry.features}
    if unknown:
        raise ArgumentError(f"no entry of the corpus has the feature {', '.join(sorted(unknown))}")
    return tuple(
        entry
        for entry in every
        if (group is None or entry.group == group)
        and entry.features >= features
        and not entry.features & without
        and (result is None or entry.expected.result == result)
    )


def manifests(folder: str | os.PathLike[str] | None = None) -> Iterator[Path]:
    """The paths of all manifests, sorted."""
    yield from sorted(root(folder).glob("*/*.json"))


def load(path: Path) -> Entry:
    """The entry that a manifest tells of.  Raises SourceError for one that cannot be read."""
    try:
        manifest = json.loads(path.read_text("utf-8"))
        return _entry(manifest, path.parent)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise SourceError(f"the manifest '{path}' cannot be read: {error!r}") from error


def _entry(manifest: dict[str, Any], folder: Path) -> Entry:
    return Entry(
        name=manifest["name"],
        group=folder.name,
        about=manifest["about"],
        format=manifest["format"],
        commands=tuple(manifest["commands"]),
        files=tuple(
            Packed(file["name"], folder / file["packed"], file["size"], file["sha256"])
            for file in manifest["files"]
        ),
        features=frozenset(manifest["features"]),
        expected=Outcome(**manifest["expected"]),
        seen=tuple(
            Sighting(
                sighting["program"],
                sighting["version"],
                Outcome(**sighting["outcome"]),
                sighting.get("check"),
            )
            for sighting in manifest["seen"]
        ),
        why=manifest.get("why", ""),
        secrets={int(depth): bytes.fromhex(text) for depth, text in manifest["secrets"].items()},
        record=manifest.get("record", {}),
    )

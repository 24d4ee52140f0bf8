"""The images of the corpus that were drawn: small ones of all that ``make_case`` gives.

Their cases stand in their manifests, from which they are made again: another ``make_case`` draws
others from the same seeds.
"""

from __future__ import annotations

import json
import random
import shlex
import tempfile
from collections.abc import Iterator
from pathlib import Path

from corpus_drafts import Draft

from qcow2crypt.testing.case import Case, Layer, Operation, Snapshot, Write
from qcow2crypt.testing.dates import with_one_date
from qcow2crypt.testing.generate import PROFILES, make_case
from qcow2crypt.testing.script import MakeFile, steps
from qcow2crypt.testing.tools import QemuTools

SEEDS = 480
_LARGEST_ENCRYPTED = 10 << 10  # such files do not pack
_LARGEST = 1 << 20


def random_drafts(folder: Path, every: int = 1) -> Iterator[Draft]:
    """The images whose manifests lie in ``folder``; new ones where it has none."""
    manifests = sorted(folder.glob("*.json"))
    tools = QemuTools.find()
    if not manifests:
        yield from filter(None, (_drawn(seed, tools) for seed in range(SEEDS)))
    for path in manifests[::every]:
        manifest = json.loads(path.read_text("utf-8"))
        case = Case.from_json(manifest["record"]["case"])
        yield _draft(manifest["name"], manifest["about"], case, _made(case, tools))


def _drawn(seed: int, tools: QemuTools) -> Draft | None:
    """A new image, if it is small and is made alike each time."""
    profile = list(PROFILES)[seed % len(PROFILES)]
    case = make_case(random.Random(seed), profile)
    operations = ((layer, one) for layer in case.layers for one in layer.operations)
    if case.top.format == "raw" or any(_unfit(layer, one) for layer, one in operations):
        return None
    files = _made(case, tools)
    encrypted = any(layer.passphrase is not None for layer in case.layers)
    if sum(map(len, files.values())) > (_LARGEST_ENCRYPTED if encrypted else _LARGEST):
        return None
    return _draft(f"{profile}-{seed:03}", f"drawn from the profile {profile}", case, files)


def _draft(name: str, about: str, case: Case, files: dict[str, bytes]) -> Draft:
    features = {word for layer in case.layers for word in _features(layer)}
    return Draft(
        "random",
        name,
        about,
        case.top.format,
        files,
        frozenset(features | ({"backing-file"} if len(case.layers) > 1 else set())),
        tuple(_commands(case)),
        {int(depth): secret.encode() for depth, secret in case.secrets.items()},
        case=case,
    )


def _unfit(layer: Layer, operation: Operation) -> bool:
    """Does it not pack, or is it made otherwise each time?

    QEMU compresses the clusters of one write on several threads, and stores them as they come.
    """
    if not isinstance(operation, Write):
        return False
    size = 4096 if layer.format == "qcow" else layer.cluster_size
    several = operation.compressed and operation.length > size
    return operation.fill.kind == "random" or several


def _made(case: Case, tools: QemuTools) -> dict[str, bytes]:
    """The files of a case, the image first; no passphrases."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        tools.make(case, folder)
        names = [case.file_name(index) for index in reversed(range(len(case.layers)))]
        names += [
            case.data_name(index) for index, layer in enumerate(case.layers) if layer.data_file
        ]
        return {name: with_one_date((folder / name).read_bytes()) for name in names}


def _features(layer: Layer) -> Iterator[str]:
    if layer.format == "raw":
        return
    yield "plain" if layer.passphrase is None else "aes"
    yield f"version-{1 if layer.format == 'qcow' else layer.version}"
    has = {
        "subclusters": layer.extended_l2,
        "data-file": layer.data_file,
        "zstd": layer.compression_type == "zstd" and layer.format == "qcow2",
        "lazy-refcounts": layer.lazy_refcounts,
        "refcount-width": layer.refcount_bits != 16,
        "snapshots": any(isinstance(one, Snapshot) for one in layer.operations),
        "compressed": any(isinstance(one, Write) and one.compressed for one in layer.operations),
    }
    yield from (word for word, there in has.items() if there)


def _commands(case: Case) -> Iterator[str]:
    for step in steps(case):
        if isinstance(step, MakeFile):
            yield f"{step.shell} > {step.name}"
        else:
            yield shlex.join((step.program, *step.words))

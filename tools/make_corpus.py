"""Make the corpus, or make a part of it again and compare.

    python tools/make_corpus.py                 # make all of corpus/ but the golden images
    python tools/make_corpus.py --check         # make all again and compare, write nothing
    python tools/make_corpus.py --check --every 20    # one in twenty
    python tools/make_corpus.py --add FILE --name NAME --about WORDS [--why WORDS]

The last one puts an input that fuzzing found into corpus/found.

Needs qemu-img and qemu-io.  Each image is read and checked by qemu-img, and what that said goes
into its manifest.  Where QEMU and this package differ, the recipe must say why, or nothing is
written.  Exits with 1 when there is a difference, with 77 when ``--check`` finds another
version of QEMU than the corpus was made with.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from corpus_drafts import Draft, drafts, reads
from corpus_found import GROUP, found_draft, found_drafts
from corpus_random import random_drafts
from source_tree import ROOT

from qcow2crypt.testing import corpus
from qcow2crypt.testing.outcomes import LARGEST, read_whole
from qcow2crypt.testing.tools import QemuTools
from qcow2crypt.testing.witness import QemuImg

CORPUS = Path(os.environ.get(corpus.VARIABLE) or ROOT / "corpus")
NOT_THIS_QEMU = 77
TIMEOUT = 60


def manifest(draft: Draft, qemu: QemuImg) -> dict[str, Any] | None:
    """The manifest of a draft, with what qemu-img makes of it; None for too large a disk."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for file, data in draft.files.items():
            (folder / file).write_bytes(data)
        for depth, secret in draft.secrets.items():
            (folder / _secret_name(draft, depth)).write_bytes(secret)
        image = folder / next(iter(draft.files))
        expected = draft.expected
        if expected is None:
            expected = read_whole(image, draft.format, draft.secrets).as_dict()
        if expected.get("size", 0) > LARGEST or image.stat().st_size > LARGEST:
            return None
        seen, check = _by_qemu(draft, qemu, folder)
    sighting: dict[str, Any] = {"program": "qemu-img", "version": qemu.version, "outcome": seen}
    if check is not None:
        sighting["check"] = check
    found = {
        "name": draft.name,
        "about": draft.about,
        "format": draft.format,
        "features": sorted(draft.features),
        "secrets": {str(depth): secret.hex() for depth, secret in draft.secrets.items()},
        "commands": list(draft.commands),
        "files": [
            {
                "name": file,
                "packed": _packed_name(draft, file),
                "size": len(data),
                "sha256": hashlib.sha256(data).hexdigest(),
            }
            for file, data in draft.files.items()
        ],
        "expected": expected,
        "seen": [sighting],
    }
    if draft.case is not None:
        found["record"] = {"case": draft.case.to_json()}
    return {**found, "why": draft.why} if differs(found) and draft.why else found


def _secret_name(draft: Draft, depth: int) -> str:
    if draft.case is None:
        return f"s{depth}"
    return draft.case.secret_name(len(draft.case.layers) - 1 - depth)


def _packed_name(draft: Draft, file: str) -> str:
    return f"{draft.name}.{file.removeprefix('image.')}.gz"


def _by_qemu(
    draft: Draft, qemu: QemuImg, folder: Path
) -> tuple[dict[str, Any], dict[str, int] | None]:
    """What ``convert`` and ``check`` of qemu-img do with an image."""
    if draft.case is not None:
        tools = QemuTools.find()
        content = tools.read(draft.case, folder)
        check = tools.check(draft.case, folder) if draft.format == "qcow2" else None
        return reads(content), check
    options = f"driver={draft.format},file.filename={next(iter(draft.files))}"
    objects = [
        word
        for depth in draft.secrets
        for word in ("--object", f"secret,id=s{depth},file=s{depth}")
    ]
    if 0 in draft.secrets:
        options += ",encrypt.key-secret=s0"
    if 1 in draft.secrets:
        base = list(draft.files)[1]
        options += f",backing.driver=qcow2,backing.file.filename={base}"
        options += ",backing.encrypt.key-secret=s1"
    words = [qemu.img, "convert", *objects, "-O", "raw", "--image-opts", options, "read.raw"]
    done = _run(words, folder)
    if done.returncode:
        message = done.stderr.strip().splitlines()[0].removeprefix("qemu-img: ")
        unreadable = message.startswith("error while reading")
        return {"result": "unreadable" if unreadable else "refused", "error": message}, None
    found = reads((folder / "read.raw").read_bytes())
    if draft.format != "qcow2":
        return found, None
    words = [qemu.img, "check", *objects, "--output=json", "--image-opts", options]
    done = _run(words, folder)
    told = json.loads(done.stdout)
    keys = ("corruptions", "leaks", "check-errors")
    return found, {key: told[key] for key in keys if told.get(key)}


def _run(words: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        words, cwd=folder, check=False, capture_output=True, text=True, timeout=TIMEOUT
    )


def differs(found: dict[str, Any]) -> bool:
    """Does qemu-img something else than what is expected of us?"""
    expected, seen = found["expected"], found["seen"][0]["outcome"]
    if expected["result"] == "reads" or seen["result"] == "reads":
        return bool(expected != seen)
    return False


def write(draft: Draft, found: dict[str, Any], folder: Path) -> None:
    """Put an entry into the corpus."""
    folder.mkdir(parents=True, exist_ok=True)
    for file, data in draft.files.items():
        packed = gzip.compress(data, compresslevel=9, mtime=0)
        (folder / _packed_name(draft, file)).write_bytes(packed)
    (folder / f"{draft.name}.json").write_text(text_of(found), encoding="utf-8")


def text_of(found: dict[str, Any]) -> str:
    """A manifest as it stands in the file."""
    return json.dumps(found, indent=1, ensure_ascii=False) + "\n"


def compare(draft: Draft, found: dict[str, Any]) -> str | None:
    """What is not as it stands in the corpus; None where all is."""
    path = CORPUS / draft.group / f"{draft.name}.json"
    if not path.is_file():
        return f"{draft.group}/{draft.name}: is not in the corpus"
    written = json.loads(path.read_text(encoding="utf-8"))
    keys = [key for key in (*found, *written) if found.get(key) != written.get(key)]
    if keys:
        return f"{draft.group}/{draft.name}: differs in {', '.join(dict.fromkeys(keys))}"
    return None


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--check", action="store_true", help="compare, write nothing")
    parser.add_argument("--every", type=int, default=1, help="only one image in so many")
    parser.add_argument("--add", metavar="FILE", type=Path, help="an input that fuzzing found")
    parser.add_argument("--name", help="of it in the corpus: words-like-this")
    parser.add_argument("--about", help="what is odd about it")
    parser.add_argument("--why", default="", help="why QEMU does something else, where it does")
    args = parser.parse_args()
    if args.add and not (args.name and args.about):
        parser.error("--add needs --name and --about")
    qemu = QemuImg.find()
    if qemu is None:
        sys.exit("qemu-img and qemu-io are needed (on Debian: apt-get install qemu-utils)")
    if args.check and qemu.version != _made_with():
        print(f"the corpus was made with QEMU {_made_with()}; here is {qemu.version}")
        return NOT_THIS_QEMU
    if args.add:
        return _add(qemu, found_draft(args.name, args.about, args.add.read_bytes(), args.why))
    return _check(qemu, args.every) if args.check else _make(qemu)


def _made_with() -> str:
    path = min(CORPUS.glob("qemu/*.json"))
    return str(json.loads(path.read_text(encoding="utf-8"))["seen"][0]["version"])


def _all(every: int = 1) -> Iterator[Draft]:
    yield from drafts(every)
    yield from random_drafts(CORPUS / "random", every)
    yield from found_drafts(CORPUS / GROUP, every)


def _check(qemu: QemuImg, every: int) -> int:
    wrong, number = [], 0
    for draft in _all(every):
        found = manifest(draft, qemu)
        if found is not None:
            number += 1
            problem = compare(draft, found)
            wrong += [problem] if problem else []
    print(*wrong, f"{number} images made again, {len(wrong)} differ", sep="\n")
    return 1 if wrong else 0


def _add(qemu: QemuImg, draft: Draft) -> int:
    found = manifest(draft, qemu)
    if found is None:
        print("its disk or its file is too large for the corpus")
        return 1
    print(text_of(found), end="")
    if differs(found) and not draft.why:
        print("QEMU does something else: add --why and say why, or mend what is wrong here")
        return 1
    write(draft, found, CORPUS / draft.group)
    return 0


def _make(qemu: QemuImg) -> int:
    with tempfile.TemporaryDirectory() as name:
        made, wrong, number = Path(name), [], 0
        for draft in _all():
            found = manifest(draft, qemu)
            if found is None:
                continue
            if differs(found) and "why" not in found:
                wrong.append(f"{draft.group}/{draft.name}: {found['expected']} {found['seen']}")
            write(draft, found, made / draft.group)
            number += 1
        if not wrong:
            for folder in made.iterdir():
                shutil.rmtree(CORPUS / folder.name, ignore_errors=True)
                shutil.copytree(folder, CORPUS / folder.name)
    print(*wrong, f"{number} images, {len(wrong)} differ without a reason", sep="\n")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())

"""Makes the vector files of this folder, and checks them.

    python tests/vectors/make_vectors.py                  make the files that need no sources
    python tests/vectors/make_vectors.py --rsp FOLDER     make the CAVP files too, from NIST's
                                                          answer files anywhere below FOLDER
    ... --check                                           change nothing, fail on any difference
    ... --check --fips197-text FILE                       compare with the printed FIPS-197 as well

A check looks at form, schema and digests, builds again all that it can, and asks two libraries
about every case and chain.  PROVENANCE.md tells where the sources come from.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import jsonschema

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the tests folder, for a script

from vectors import cavp, documents, fips197_text, two_libraries
from vectors.documents import Document

FOLDER = Path(__file__).resolve().parent
DIGESTS = FOLDER / "SHA256SUMS"
CAVP_COMMENT = (
    "Known answers (GFSbox, KeySbox, VarKey, VarTxt) and multi-block messages (MMT) for {mode}. "
    "An id is file/section/COUNT; cases that a file lists twice are kept once. All hold in both "
    "directions."
)
MCT_COMMENT = (
    "Monte Carlo chains for CBC, the first two of each file and direction. A chain is 1000 "
    "one-block operations; AESAVS section 6.4 gives the rule that links them."
)


def build(rsp: Path | None) -> dict[str, Document]:
    """The documents by file name; those of CAVP only where there are sources."""
    built = {
        "fips197.json": documents.fips197(),
        "sp800-38a-cbc.json": documents.sp800_38a_cbc(),
        "sectors.json": documents.sectors(),
    }
    if rsp is not None:
        for mode in ("ECB", "CBC"):
            sources, cases = cavp.answers(rsp, mode)
            built[f"cavp-{mode.lower()}.json"] = {
                "id": f"cavp-{mode.lower()}",
                "source": "NIST CAVP, KAT_AES.zip and aesmmt.zip, CAVS 11.1, 22 April 2011",
                "comment": CAVP_COMMENT.format(mode=mode),
                "sources": sources,
                "cases": cases,
            }
        sources, chains = cavp.chains(rsp)
        built["cavp-cbc-mct.json"] = {
            "id": "cavp-cbc-mct",
            "source": "NIST CAVP, aesmct.zip, CAVS 11.1, 22 April 2011",
            "comment": MCT_COMMENT,
            "sources": sources,
            "chains": chains,
        }
    return built


def canonical(document: Document) -> str:
    """The one written form: a line for each name, and a line for each item of a list."""
    parts = []
    for name, value in document.items():
        if isinstance(value, list):
            items = ",\n".join("  " + json.dumps(item, ensure_ascii=True) for item in value)
            parts.append(f"{json.dumps(name)}: [\n{items}\n ]")
        else:
            parts.append(f"{json.dumps(name)}: {json.dumps(value, ensure_ascii=True)}")
    return "{\n " + ",\n ".join(parts) + "\n}\n"


def vector_files() -> list[Path]:
    """All vector files, in the order of SHA256SUMS."""
    return sorted(path for path in FOLDER.glob("*.json") if path.name != "schema.json")


def digests() -> str:
    """What SHA256SUMS should hold: the form that ``sha256sum --check`` reads."""
    return "".join(
        f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n" for path in vector_files()
    )


def problems(built: dict[str, Document]) -> list[str]:
    """Everything that is wrong with the files of this folder, in words."""
    found = []
    schema = json.loads((FOLDER / "schema.json").read_text("utf-8"))
    for path in vector_files():
        text = path.read_text("utf-8")
        document = json.loads(text)
        validator = jsonschema.Draft202012Validator(schema)
        found += [f"{path.name}: {error.message}" for error in validator.iter_errors(document)]
        if text != canonical(document):
            found.append(f"{path.name}: not in the canonical form")
        if document["id"] != path.stem:
            found.append(f"{path.name}: its id is {document['id']}")
        if path.name in built and document != built[path.name]:
            found.append(f"{path.name}: differs from what its sources give")
        cases = document.get("cases", [])
        if len({case["id"] for case in cases}) != len(cases):
            found.append(f"{path.name}: an id is there twice")
        found += [f"{path.name}: {problem}" for problem in _wrong_cases(cases)]
        found += [f"{path.name}: {problem}" for problem in _wrong_chains(document)]
        by_id = {case["id"]: case for case in cases}
        found += [
            f"{path.name}: {row['case']} was measured otherwise at {row['offset']}"
            for row in document.get("measured", [])
            if not by_id[row["case"]]["ciphertext"].startswith(row["ciphertext"], 2 * row["offset"])
        ]
    found += [f"{name}: missing" for name in built if not (FOLDER / name).exists()]
    if DIGESTS.read_text("ascii") != digests():
        found.append("SHA256SUMS: does not fit the files")
    return found


def _wrong_cases(cases: list[Document]) -> Iterator[str]:
    for case in cases:
        key, plaintext, ciphertext = (
            bytes.fromhex(case[name]) for name in ("key", "plaintext", "ciphertext")
        )
        iv = bytes.fromhex(case["iv"]) if "iv" in case else None
        if two_libraries.encrypt(key, iv, plaintext) != ciphertext:
            yield f"{case['id']} does not encrypt to its ciphertext"
        if two_libraries.decrypt(key, iv, ciphertext) != plaintext:
            yield f"{case['id']} does not decrypt to its plaintext"


def _wrong_chains(document: Document) -> Iterator[str]:
    for chain in document.get("chains", []):
        key, iv, block = (bytes.fromhex(chain[name]) for name in ("key", "iv", "input"))
        encrypting = chain["direction"] == "encrypt"
        output = two_libraries.monte_carlo(key, iv, block, encrypting=encrypting)
        if output.hex() != chain["output"]:
            yield f"{chain['id']} does not end in its output"


def main(arguments: list[str] | None = None) -> int:
    """0 when all is well, 1 when a check found something."""
    parser = argparse.ArgumentParser(description="Make or check the test vectors.")
    parser.add_argument("--check", action="store_true", help="change nothing, report differences")
    parser.add_argument("--rsp", type=Path, help="folder with NIST's .rsp files")
    parser.add_argument("--fips197-text", type=Path, help="FIPS-197 (2001) as text, to compare")
    options = parser.parse_args(arguments)
    built = build(options.rsp)
    if not options.check:
        for name, document in built.items():
            (FOLDER / name).write_text(canonical(document), "utf-8")
        DIGESTS.write_text(digests(), "ascii")
    found = problems(built)
    if options.fips197_text is not None:
        text = options.fips197_text.read_text("utf-8")
        found += fips197_text.differences(text, built["fips197.json"])
    for problem in found:
        sys.stderr.write(problem + "\n")
    for path in vector_files():
        document = json.loads(path.read_text("utf-8"))
        counts = ", ".join(f"{len(v)} {k}" for k, v in document.items() if isinstance(v, list))
        how = "rebuilt" if path.name in built else "digest only"
        sys.stdout.write(f"{path.name}: {counts} ({how}, {path.stat().st_size} bytes)\n")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())

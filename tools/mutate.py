"""Mutation testing of the core: would a test notice if this line were wrong?

    python tools/mutate.py                 # all core modules
    python tools/mutate.py cipher ivgen    # those whose path has one of these words
    python tools/mutate.py --list          # what would be tried

Every mutant is a module with one small fault, made by the operators of cosmic-ray and by those of
``mutants``.  It is run in a process of its own against the tests that are meant to guard the
module.  No file is changed.  A mutant that all of them pass has survived.  Those listed in
``known_mutants.json`` change nothing that matters, and it says why.  The exit status is 1 when
another one survived.

POSIX only: each mutant is a fork of one process that has pytest loaded.  docs/mutation.md has a
record of runs.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections import Counter
from pathlib import Path

from mutant_runs import Run
from mutants import Mutant, mutants_of

ROOT = Path(__file__).resolve().parent.parent
KNOWN = ROOT / "tools" / "known_mutants.json"

# The tests that are meant to guard a module, the quickest first.  None may start a process that
# imports the package: such a process would not have the mutant.
_UNIT, _PROPERTIES = "tests/unit/test_", "tests/properties/test_"
GUARDS: dict[str, tuple[str, ...]] = {
    "crypt/legacy_aes": (_UNIT + "legacy_aes",),
    "crypt/ivgen": (_PROPERTIES + "ivgen",),
    "crypt/cipher": (_PROPERTIES + "cipher",),
    "reference/ivgen": (_UNIT + "reference_ivgen", _UNIT + "reference_sectors"),
    "reference/modes": (_UNIT + "reference_modes", _UNIT + "reference_watch"),
    "reference/sectors": (_UNIT + "reference_sectors", _UNIT + "reference_watch"),
    "image/qcow2/entries": (_UNIT + "entries", _UNIT + "mapping"),
    "image/qcow2/mapping": (
        *(_UNIT + "run_at", _UNIT + "mapping_refusals", _UNIT + "mapping", _UNIT + "subclusters"),
    ),
    "image/qcow2/tables": (_UNIT + "tables", _UNIT + "end_of_run"),
    "image/qcow2/refcountblock": (_UNIT + "refcountblock", _UNIT + "refcount_structures"),
    "image/qcow2/counts": (_UNIT + "counts",),
    "image/qcow2/edit/refcounts": (_UNIT + "refcounts", _UNIT + "refcount_structures"),
    "image/qcow2/fresh/refcounts": (_UNIT + "fresh_refcounts", _UNIT + "fresh_tables"),
}


def read_known() -> dict[tuple[str, str, str], str]:
    """The mutants that change nothing that matters, with the reason."""
    rows = json.loads(KNOWN.read_text(encoding="utf-8"))
    return {
        (row["module"], before, after): row["why"]
        for row in rows
        for before, after in row["mutants"]
    }


def try_module(module: str, known: dict[tuple[str, str, str], str]) -> Counter[str]:
    """Run all mutants of one module, show those that survive, and count what came of them."""
    source = read_source(module)
    tests = [f"{ROOT / guard}.py" for guard in GUARDS[module]]
    name = f"qcow2crypt.{module.replace('/', '.')}"
    mutants = mutants_of(source)
    # A process for each module: what pytest imports and sets stays there.
    reader, writer = os.pipe()
    if not (child := os.fork()):
        os.close(reader)
        with os.fdopen(writer, "w", encoding="ascii") as report:
            Run(name, source, tests, mutants, report).run_all()
        os._exit(0)
    os.close(writer)
    counts: Counter[str] = Counter()
    with os.fdopen(reader, encoding="ascii") as results:
        if results.readline() != "survived\n":
            sys.exit(f"the tests fail without any mutant: python -m pytest {' '.join(tests)}")
        for mutant in mutants:
            if not (result := results.readline().strip()):
                sys.exit(f"{module}: the process that ran its mutants ended too early")
            if result == "survived":
                if (module, mutant.before, mutant.after) in known:
                    result = "known"
                else:
                    show(module, mutant)
            counts[result] += 1
    os.waitpid(child, 0)
    return counts


def read_source(module: str) -> str:
    """The text of a core module."""
    return (ROOT / "qcow2crypt" / f"{module}.py").read_text(encoding="utf-8")


def show(module: str, mutant: Mutant) -> None:
    """A survivor, for a person and for ``known_mutants.json``."""
    print(f"{module}.py:{mutant.line}  {mutant.operator}")
    print(f"    {json.dumps([mutant.before, mutant.after])}", flush=True)


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(description="Mutation testing of the core.")
    parser.add_argument("words", nargs="*", help="only modules whose path has one of these")
    parser.add_argument("--list", action="store_true", help="show the mutants, run none")
    options = parser.parse_args()
    modules = [
        module
        for module in GUARDS
        if not options.words or any(word in module for word in options.words)
    ]
    if options.list:
        for module in modules:
            for mutant in mutants_of(read_source(module)):
                show(module, mutant)
        return 0
    os.chdir(ROOT)
    sys.path.insert(0, str(ROOT))
    known = read_known()
    total = Counter[str]()
    for module in modules:
        start = time.monotonic()
        results = try_module(module, known)
        total += results
        print(f"{module:30} {told(results)}  {time.monotonic() - start:.0f} s", flush=True)
    print(f"{'all':30} {told(total)}")
    return 1 if total["survived"] else 0


def told(results: Counter[str]) -> str:
    """One row of figures."""
    killed = results["killed"] + results["timeout"]
    return (
        f"{results.total():4} mutants  {killed:4} killed ({results['timeout']} by the limit)  "
        f"{results['known']:3} known to change nothing  {results['survived']:3} survived"
    )


if __name__ == "__main__":
    sys.exit(main())

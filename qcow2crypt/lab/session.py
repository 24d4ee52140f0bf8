"""Run demonstrations: in a folder that is kept, or in one that is gone at the end."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, NamedTuple

from qcow2crypt.errors import LabError
from qcow2crypt.lab import DEMONSTRATIONS
from qcow2crypt.lab.base import Claim, Demonstration, Result
from qcow2crypt.lab.desk import Desk
from qcow2crypt.lab.qemu import Qemu
from qcow2crypt.tempfolder import temporary_folder


class Shown(NamedTuple):
    """A demonstration and what its run gave."""

    demonstration: Demonstration
    result: Result

    def _repr_html_(self) -> str:
        """The report, for notebooks: in a frame of its own, so that its style stays in there."""
        from html import escape

        from qcow2crypt.lab.page import report

        page = escape(report([self]))
        return f'<iframe sandbox="" width="100%" height="720" srcdoc="{page}"></iframe>'


def show(
    names: Sequence[str],
    *,
    keep: Path | None = None,
    qemu: Qemu | None = None,
    tell: Callable[[str], None] = lambda _: None,
) -> list[Shown]:
    """Run the demonstrations of these names, one after the other.

    ``keep`` is a folder for their files, new or empty; None takes one that is removed.  ``qemu``
    None leaves out what needs QEMU.  ``tell`` is given each name before its run.  Raises LabError,
    and what the library raises.
    """
    with _folder(keep) as folder:
        desk = Desk(folder, qemu)
        found = []
        for name in names:
            tell(name)
            demonstration = DEMONSTRATIONS[name]
            found.append(Shown(demonstration, demonstration.run(desk)))
        return found


def _folder(keep: Path | None) -> AbstractContextManager[Path]:
    if keep is None:
        return temporary_folder("qcow2crypt-lab-")
    try:
        keep.mkdir(parents=True, exist_ok=True)
        empty = not any(keep.iterdir())
    except OSError as error:
        raise LabError(f"'{keep}' cannot hold the files: {error.strerror}") from error
    if not empty:
        raise LabError(f"'{keep}' is not empty: name a folder that is new or empty")
    return nullcontext(keep.resolve())


def as_dict(shown: Sequence[Shown], qemu: Qemu | None) -> dict[str, Any]:
    """All of it but the pictures as plain values, for JSON."""
    return {
        "qemu": None if qemu is None else qemu.version,
        "holds": all(one.result.holds for one in shown),
        "demonstrations": [_one(*one) for one in shown],
    }


def _one(demonstration: Demonstration, result: Result) -> dict[str, Any]:
    return {
        "name": demonstration.name,
        "title": demonstration.title,
        "claim": demonstration.claim,
        "holds": result.holds,
        "figures": [_claim(claim) for claim in result.claims],
        "story": list(demonstration.story),
        "answer": list(demonstration.answer),
        "sources": [source._asdict() for source in demonstration.sources],
        "files": [{"name": name, "about": about} for name, about in result.files],
        "commands": [command._asdict() for command in result.commands],
        "not-run": list(result.not_run),
    }


def _claim(claim: Claim) -> dict[str, Any]:
    return {
        "name": claim.name,
        "sentence": claim.sentence,
        "measured": claim.measured,
        "of": claim.of,
        "rule": claim.rule,
        "tolerance": claim.tolerance,
        "chance": claim.chance or None,
        "side": claim.side,
        "by": claim.by,
        "holds": claim.holds,
    }

"""Many differences of one fault are one group: by kind, and by what the smallest case takes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from qcow2crypt.difftest.differences import Difference

Key = tuple[str, ...]


@dataclass(slots=True)
class Group:
    """Differences that are taken for one.

    ``keys``      of the differences (``Difference.key``) as they were found
    ``features``  what the smallest case takes; None until it is known
    ``first``     the number of the case that it was found in first
    ``count``     how many cases showed it
    ``folder``    the name of the folder with its report, below that of the run
    """

    kind: str
    part: str
    keys: set[Key]
    first: int
    refusal: bool
    message: str = ""
    features: Key | None = None
    count: int = 1
    folder: str = ""

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        return {
            "kind": self.kind,
            "part": self.part,
            "features": None if self.features is None else list(self.features),
            "message": self.message,
            "first_case": self.first,
            "cases": self.count,
            "refusal": self.refusal,
            "report": self.folder,
        }


@dataclass(slots=True)
class Groups:
    """All groups of a run, in the order in which they were found."""

    groups: list[Group] = field(default_factory=list)
    made: int = 0
    """How many there ever were: for the names of folders."""

    def note(self, number: int, difference: Difference) -> Group | None:
        """Count a difference.  Gives its group where that is new: its case is to be shrunk."""
        key = difference.key()
        for group in self.groups:
            if key in group.keys:
                group.count += 1
                return None
        group = Group(difference.kind, difference.part, {key}, number, difference.refusal)
        group.message = key[-1]
        self.made += 1
        group.folder = f"{self.made:03}-{difference.kind.replace(' ', '-')}"
        self.groups.append(group)
        return group

    def shrunk(self, group: Group, features: Key, key: Key) -> bool:
        """The smallest case of a group is known.  False where the group joined an older one."""
        group.features = features
        group.message = key[-1]
        for other in self.groups:
            same = (other.kind, other.part, other.features) == (group.kind, group.part, features)
            if other is not group and same and other.message == group.message:
                other.keys |= group.keys
                other.count += group.count
                self.groups.remove(group)
                return False
        return True

    def to_json(self) -> dict[str, Any]:
        """For ``from_json``."""
        rows = [{**group.to_json(), "keys": sorted(map(list, group.keys))} for group in self.groups]
        return {"made": self.made, "groups": rows}

    @classmethod
    def from_json(cls, plain: dict[str, Any]) -> Groups:
        """From what ``to_json`` gave."""
        groups = [
            Group(
                row["kind"],
                row["part"],
                {tuple(key) for key in row["keys"]},
                row["first_case"],
                row["refusal"],
                row["message"],
                None if row["features"] is None else tuple(row["features"]),
                row["cases"],
                row["report"],
            )
            for row in plain["groups"]
        ]
        return cls(groups, plain["made"])

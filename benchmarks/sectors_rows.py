"""What the sector benchmark measures, and what is asked of the native engine.

A row is a question with an answer in every cell, a ratio of two jobs of the same group.  The jobs
of a group are timed in turns, so both have met the same moments of the machine.  ``at_least`` and
``aim`` stand where a speed is asked for, on a processor with VAES; a row without them informs.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

from benchmarks.sectors_build import Job, Times

DIRECTIONS = {"enc": "encrypt", "dec": "decrypt"}
PLACES = ("in", "out")
SECTIONS = ("cbc", "aes256", "memory", "threads", "portable", "small", "python")
SECTOR = 512
SMALL = (16, 8, 4, 2, 1)

# How wide the vectors of a kernel are: its limit is that of this width.
WIDTHS = {"vaes512": "zmm", "vaes256": "ymm", "aesni": "xmm"}
PEERS = ("openssl", "nettle", "ipsecmb")


@dataclass(frozen=True)
class Group:
    """Jobs that are timed in turns.  ``is_long``: one call is a sample, few of them must do."""

    section: str
    title: str
    jobs: tuple[Job, ...]
    is_long: bool = False


@dataclass(frozen=True)
class Cell:
    """How many times as fast as ``base`` is ``job``?  ``factor``: by how much its work is more."""

    label: str
    job: Job
    base: Job
    factor: float = 1
    wall: bool = False


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    section: str
    title: str
    cells: tuple[Cell, ...]
    at_least: float | None = None
    aim: float | None = None


@dataclass
class Answer:
    """A row, measured: medians against medians, best against best."""

    title: str
    at_least: float | None
    aim: float | None
    medians: dict[str, float] = field(default_factory=dict)
    bests: dict[str, float] = field(default_factory=dict)
    less_is_better: bool = False
    by_wall: bool = False

    @property
    def verdict(self) -> str:
        """The word for the cell that is worst."""
        if self.at_least is None or self.aim is None or not self.medians:
            return ""
        worst = max(self.medians.values()) if self.less_is_better else min(self.medians.values())
        sign = -1 if self.less_is_better else 1
        if sign * worst >= sign * self.aim:
            return "aim reached"
        return "enough" if sign * worst >= sign * self.at_least else "FALLS SHORT"

    def rounded(self) -> dict[str, Any]:
        """For a file: four digits are more than can be trusted."""
        ratios = {"medians": self.medians, "bests": self.bests}
        short = {name: {k: float(f"{x:.4g}") for k, x in v.items()} for name, v in ratios.items()}
        return asdict(self) | short | {"verdict": self.verdict}


def answer(row: Row, times: dict[Job, Times]) -> Answer:
    """The ratios of a row."""
    result = Answer(row.title, row.at_least, row.aim)
    result.by_wall = any(cell.wall for cell in row.cells)
    for cell in row.cells:
        own, base = times[cell.job], times[cell.base]
        a, b = (own.wall, base.wall) if cell.wall else (own.cpu, base.cpu)
        result.medians[cell.label] = cell.factor * statistics.median(b) / statistics.median(a)
        result.bests[cell.label] = cell.factor * min(b) / min(a)
    return result


def size_name(sectors: int) -> str:
    """The bytes of a run in few letters."""
    for unit, letter in ((2048, "M"), (2, "K")):
        if sectors >= unit and sectors % unit == 0:
            return f"{sectors // unit}{letter}"
    return f"{512 * sectors}"


class Plan:
    """Which groups and rows there are, for what can be measured here.

    ``available``: the contenders that the program has, our kernels first and best first, up to
    "plain64"; ``sizes``: sectors in the runs that fit into caches; ``memory``: in the one that does
    not.
    """

    def __init__(self, available: list[str], sizes: list[int], memory: int) -> None:
        kernels = available[: available.index("plain64")]
        self.best = kernels[0]
        self.memory = memory
        self.fast = [name for name in kernels if name in WIDTHS]
        self.slow = [name for name in kernels if name.startswith("portable")]
        self.sizes = sizes
        self.limits = [name for name in available if name.startswith("limit-")]
        self.peers = [name for name in PEERS if name in available]

    def groups(self) -> Iterator[Group]:
        """All groups, in the order in which they are measured."""
        contenders = (*(self.fast or [self.best]), *self.peers, *self.limits)
        for bits, section in ((128, "cbc"), (256, "aes256")):
            for direction, word in DIRECTIONS.items():
                for sectors in self.sizes:
                    for place in PLACES:
                        title = f"AES-{bits} {word}, {size_name(sectors)} {place}"
                        jobs = (Job(n, direction, bits, sectors, place) for n in contenders)
                        yield Group(section, title, tuple(jobs))
        for direction, word in DIRECTIONS.items():
            jobs = (Job(name, direction) for name in (*self.slow, "table", *self.peers))
            yield Group("portable", f"no AES instructions in ours, {word}, 64K in", tuple(jobs))
        jobs = (Job(self.best, d, 128, n) for d in DIRECTIONS for n in SMALL)
        yield Group("small", f"{max(SMALL)} sectors and less, in", tuple(jobs))
        yield Group("small", "plain64 IVs, 64K in", (Job(self.best), Job("plain64")))
        for sectors in self.sizes:
            pairs = [(d, threads) for d in DIRECTIONS for threads in (1, 2)]
            jobs = (Job(self.best, d, 128, sectors, "in", threads) for d, threads in pairs)
            yield Group("threads", f"two threads, {size_name(sectors)} in", tuple(jobs))
        title = f"memory, {size_name(self.memory)}"
        yield Group("memory", title, tuple(self._memory_jobs()), is_long=True)

    def rows(self) -> Iterator[Row]:
        """All rows, in the order of the table."""
        if self.fast:
            yield from self._limit_rows(self.best)
            yield from self._peer_rows()
        for name in self.fast:
            if name != self.best:
                yield from self._limit_rows(name)
        yield from self._memory_rows()
        yield from self._thread_rows()
        yield from self._portable_rows()
        yield from self._small_rows()

    def _cells(self, name: str, base: str, direction: str, bits: int) -> tuple[Cell, ...]:
        return tuple(
            Cell(
                f"{size_name(sectors)} {place}",
                Job(name, direction, bits, sectors, place),
                Job(base, direction, bits, sectors, place),
            )
            for sectors in self.sizes
            for place in PLACES
        )

    def _limit_rows(self, name: str) -> Iterator[Row]:
        """Of the limit of its own width; for the best kernel this is the widest there is."""
        asked: dict[tuple[int, str], tuple[float, float]] = {}
        if name == "aesni":
            asked = {(128, "enc"): (0.78, 0.85), (128, "dec"): (0.88, 0.97)}
        elif name == self.best:
            asked = {(128, "enc"): (0.70, 0.85), (128, "dec"): (0.85, 0.97)}
            asked |= {(256, "enc"): (0.65, 0.80), (256, "dec"): (0.85, 0.95)}
        limit = f"limit-{WIDTHS[name]}"
        for bits, section in ((128, "cbc"), (256, "aes256")):
            for direction, word in DIRECTIONS.items():
                title = f"{name} AES-{bits} {word} / {limit}"
                cells = self._cells(name, limit, direction, bits)
                yield Row(section, title, cells, *asked.get((bits, direction), ()))

    def _peer_rows(self) -> Iterator[Row]:
        asked = {
            ("openssl", "enc"): (13, 17),
            ("nettle", "enc"): (10, 13),
            ("ipsecmb", "enc"): (2.2, 2.8),
            ("openssl", "dec"): (5, 8),
        }
        for bits, section in ((128, "cbc"), (256, "aes256")):
            for direction, word in DIRECTIONS.items():
                for peer in self.peers:
                    targets = asked.get((peer, direction), ()) if bits == 128 else ()
                    title = f"{self.best} AES-{bits} {word} / {peer}"
                    yield Row(
                        section, title, self._cells(self.best, peer, direction, bits), *targets
                    )

    def _memory_rows(self) -> Iterator[Row]:
        encrypt_in, encrypt_out, decrypt_in, decrypt_out, modify, copy = self._memory_jobs()
        for title, job, base, at_least, aim in (
            ("encrypt in place / read-modify-write", encrypt_in, modify, 0.80, 0.97),
            ("encrypt out of place / memcpy", encrypt_out, copy, 0.60, 0.75),
            ("decrypt in place / read-modify-write", decrypt_in, modify, 0.85, 1.0),
            ("decrypt out of place / memcpy", decrypt_out, copy, 0.85, 1.0),
        ):
            cells = (Cell(size_name(self.memory), job, base),)
            yield Row("memory", f"{self.best} {title}", cells, at_least, aim)

    def _thread_rows(self) -> Iterator[Row]:
        """By the wall, as asked; by processor time other programs are left out of it."""
        for clock, asked in (("wall", (1.7, 1.95)), ("processor time", ())):
            for direction, word in DIRECTIONS.items():
                cells = []
                for sectors in self.sizes:
                    one, two = (Job(self.best, direction, 128, sectors, "in", n) for n in (1, 2))
                    cells.append(Cell(f"{size_name(sectors)} in", two, one, 2, clock == "wall"))
                title = f"{self.best} {word}, two threads / one, {clock}"
                yield Row("threads", title, tuple(cells), *asked)

    def _portable_rows(self) -> Iterator[Row]:
        for name in self.slow:
            for direction, word in DIRECTIONS.items():
                asked = (1.2, 1.7) if (name, direction) == ("portable-avx2", "enc") else ()
                cell = Cell("64K in", Job(name, direction), Job("table", direction))
                yield Row("portable", f"{name} {word} / table", (cell,), *asked)

    def _small_rows(self) -> Iterator[Row]:
        most = max(SMALL)
        asked = {8: (0.5, 0.7), 4: (0.25, 0.4), 2: (0.12, 0.2), 1: (0.06, 0.1)}
        for direction, word in DIRECTIONS.items():
            whole = Job(self.best, direction, sectors=most)
            for sectors in SMALL[1:]:
                part = Cell("in", Job(self.best, direction, sectors=sectors), whole, sectors / most)
                title = f"{self.best} {word}, speed at {sectors} / {most} sectors"
                yield Row("small", title, (part,), *(asked[sectors] if direction == "enc" else ()))
        cell = Cell("64K in", Job("plain64"), Job(self.best))
        yield Row("small", f"{self.best} with IVs made in the call / ready", (cell,))

    def _memory_jobs(self) -> list[Job]:
        """Encrypt in place and out of place, decrypt likewise, read-modify-write, memcpy."""
        names = [(self.best, d, place) for d in DIRECTIONS for place in PLACES]
        names += [("read-modify-write", "enc", "in"), ("memcpy", "enc", "out")]
        return [Job(name, d, 128, self.memory, place) for name, d, place in names]

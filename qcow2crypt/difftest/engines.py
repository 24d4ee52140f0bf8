"""All engines and kernels against each other and against other libraries, millions of runs.

Work goes by rounds, and rounds by slices: the same seed and slice are the same runs.  Each round
is one run of sectors; a slow cipher takes its first sectors, and only so many rounds that it costs
no more time than the others.
"""

from __future__ import annotations

import random
import time
from collections import Counter, deque
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any, NamedTuple

import qcow2crypt
from qcow2crypt.difftest.ciphers import Cipher, Run, all_ciphers, make_key, make_run
from qcow2crypt.difftest.pool import Pool
from qcow2crypt.reference import iv_generator
from qcow2crypt.units import BLOCK_SIZE, SECTOR_SIZE

_ROUNDS = 1000
_ROUNDS_A_KEY = 8
_KEPT_MAX = 20
"""So many differences are told; the others are counted."""


class Slice(NamedTuple):
    """What came of one slice: runs and sectors of each cipher, and what differs."""

    runs: Counter[str]
    sectors: Counter[str]
    differences: list[dict[str, Any]]


class Progress(NamedTuple):
    """How far it is."""

    seconds: float
    of: float
    runs: int
    differences: int


def run_engines(
    seed: int, seconds: float, jobs: int, slices: int | None, tell: Callable[[Progress], None]
) -> dict[str, Any]:
    """Compare until the time is over, or so many slices are done; gives a summary."""
    ciphers, missing = all_ciphers()
    runs: Counter[str] = Counter()
    sectors: Counter[str] = Counter()
    differences: list[dict[str, Any]] = []
    began = time.monotonic()
    given = found = 0

    def serve(connection: Connection) -> None:
        while True:
            try:
                number = connection.recv()
            except EOFError:
                return
            connection.send(do_slice(ciphers, seed, number))

    with Pool(jobs, serve) as pool:
        idle, busy = deque(pool.ends), 0
        while True:
            over = time.monotonic() - began >= seconds
            while idle and not over and (slices is None or given < slices):
                idle.popleft().send(given)
                given += 1
                busy += 1
            if not busy:
                break
            for end, part in pool.answers(0.5):
                busy -= 1
                idle.append(end)
                runs += part.runs
                sectors += part.sectors
                found += len(part.differences)
                differences += part.differences[: _KEPT_MAX - len(differences)]
            tell(Progress(time.monotonic() - began, seconds, runs.total(), found))
    return {
        "difftest_engines": 1,
        "qcow2crypt": qcow2crypt.__version__,
        "seed": seed,
        "seconds": round(time.monotonic() - began, 1),
        "slices": given,
        "ciphers": [
            {"name": one.name, "runs": runs[one.name], "sectors": sectors[one.name]}
            for one in ciphers
        ],
        "runs": runs.total(),
        "missing": missing,
        "differences": differences,
        "wrong": found,
    }


def do_slice(ciphers: list[Cipher], seed: int, number: int) -> Slice:
    """The rounds of one slice."""
    choose = random.Random(f"engines {seed} {number}")  # noqa: S311 - must be repeatable
    part = Slice(Counter(), Counter(), [])
    key = b""
    for index in range(_ROUNDS):
        if index % _ROUNDS_A_KEY == 0:
            key = make_key(choose)
        run = make_run(choose, key)
        expected = ciphers[0].do(run)
        part.runs[ciphers[0].name] += 1
        part.sectors[ciphers[0].name] += run.sectors
        for cipher in ciphers[1:]:
            if index % cipher.every:
                continue
            short = run if run.sectors <= cipher.most else run.part(0, cipher.most)
            given = cipher.do(short)
            part.runs[cipher.name] += 1
            part.sectors[cipher.name] += short.sectors
            if given != expected[: len(short.data)]:
                part.differences.append(_difference(ciphers[0], cipher, short))
    return part


def _difference(first: Cipher, second: Cipher, run: Run) -> dict[str, Any]:
    """What differs, for the smallest part of the run that still does."""
    run = _smallest(first, second, run)
    left, right = first.do(run), second.do(run)
    at = next(
        (at for at in range(0, len(left), BLOCK_SIZE) if left[at:][:16] != right[at:][:16]), 0
    )
    sector = run.first + at // SECTOR_SIZE
    return {
        "ciphers": [first.name, second.name],
        "direction": "encrypt" if run.encrypt else "decrypt",
        "key": run.key.hex(),
        "iv_generator": run.ivs,
        "first_sector": run.first,
        "sectors": run.sectors,
        "in_place": run.in_place,
        "behind_border": list(run.before),
        "differs_at": at,
        "sector": sector,
        "iv": bytes(iv_generator(run.ivs, run.key)(sector)).hex(),
        "input": run.data[at : at + BLOCK_SIZE].hex(),
        "outputs": [left[at : at + BLOCK_SIZE].hex(), right[at : at + BLOCK_SIZE].hex()],
    }


def _smallest(first: Cipher, second: Cipher, run: Run) -> Run:
    def differs(candidate: Run) -> bool:
        return first.do(candidate) != second.do(candidate)

    for index in range(run.sectors):
        if differs(run.part(index, 1)):
            run = run.part(index, 1)
            break
    for candidate in (
        run._replace(in_place=False),
        run._replace(in_place=False, before=(0, 0)),
        run._replace(in_place=False, before=(0, 0), data=bytes(len(run.data))),
    ):
        if differs(candidate):
            run = candidate
    return run

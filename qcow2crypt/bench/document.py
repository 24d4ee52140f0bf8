"""The result of a run as plain values: what is written as JSON, and what all else is made from.

docs/json-output.md and its schema describe it.  Times are in seconds, rounded to five digits.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from qcow2crypt.bench.answer import answer
from qcow2crypt.bench.clock import Taken
from qcow2crypt.bench.findings import (
    Effect,
    Finding,
    calls,
    effects,
    findings,
    rivals,
    without_start,
)
from qcow2crypt.bench.noise import judge
from qcow2crypt.bench.peers import SWITCHES
from qcow2crypt.bench.samples import Ratio, confidence, summary
from qcow2crypt.bench.settings import Settings
from qcow2crypt.bench.subjects import Work

SECTIONS = ("cipher", "conversion", "requests", "start")


def document(
    settings: Settings,
    circumstances: Mapping[str, Any],
    taken: Taken,
    load: float | None,
    seconds: float,
) -> dict[str, Any]:
    """The whole document.  ``load`` was that of the machine before, ``seconds`` the run took."""
    samples, dropped = without_start(taken.samples)
    spreads = [summary(own).spread for own in samples.values()]
    noise = judge(taken.control, spreads, load, circumstances["processors"])
    rows = findings(samples, noise.factor)
    changes = effects(samples)
    kernel = circumstances["kernel"]
    engine = f"native:{kernel}" if kernel else circumstances["engine"]
    others = rivals(samples)
    told = answer(
        rows,
        changes,
        others,
        list(calls(samples, engine)),
        noise,
        disk_size=settings.disk_size,
        rounds=taken.rounds,
        off=_how_off(circumstances["engine-without-aes"]),
    )
    found: dict[str, Any] = {
        "settings": {
            "name": settings.name,
            "seconds": round(seconds, 1),
            "rounds": taken.rounds,
            "confidence": round(confidence(taken.rounds), 3),
            "disk-size": settings.disk_size,
            "requests": settings.requests,
            "cluster-sizes": list(settings.cluster_sizes),
            "switches": dict(SWITCHES),
        },
        "circumstances": dict(circumstances),
        "noise": {
            "level": noise.level,
            "factor": digits(noise.factor),
            "control": digits(noise.control),
            "typical": digits(noise.typical),
            "text": noise.text,
        },
    }
    for section in SECTIONS:
        found[section] = [
            _figure(work, own) for work, own in samples.items() if work.section == section
        ]
    found["missing"] = [one._asdict() for one in (*taken.missing, *dropped)]
    found["answer"] = {
        "verdict": told.verdict,
        "text": [{"about": one.about, "lines": list(one.lines)} for one in told.text],
        "cluster-size": [_finding(row) for row in rows],
        "aes-instructions": [_effect(effect) for effect in changes],
        "beside-qemu": [_effect(effect) for effect in others],
    }
    return found


def digits(number: float) -> float:
    """Five digits that count.

    >>> digits(0.000123456789), digits(0.0)
    (0.00012346, 0.0)
    """
    return float(f"{number:.5g}")


def _how_off(engine: str | None) -> str:
    switches = ", ".join(f"{name}={value}" for name, value in SWITCHES.items())
    ours = f"qcow2crypt took the engine {engine}; " if engine else ""
    return (
        f"To switch them off, {ours}other programs got {switches} in their environment. nettle, "
        "gnutls and OpenSSL listen to that; libgcrypt and the AES of QEMU itself do not."
    )


def _work(work: Work) -> dict[str, Any]:
    return {
        "who": work.who,
        "what": work.what,
        "encryption": work.encryption,
        "instructions": work.instructions,
        "size": work.size,
        "cluster-size": work.cluster_size or None,
    }


def _figure(work: Work, samples: Sequence[float]) -> dict[str, Any]:
    found = summary(samples)
    has_speed = work.section != "start" and found.median > 0
    return _work(work) | {
        "samples": found.samples,
        "seconds": digits(found.median),
        "low": digits(found.low),
        "high": digits(found.high),
        "spread": digits(found.spread),
        "mb-per-s": digits(work.size / found.median / 1e6) if has_speed else None,
    }


def _finding(row: Finding) -> dict[str, Any]:
    found = row.dependence
    return {
        "who": row.who,
        "what": row.what,
        "encryption": row.encryption,
        "size": row.size,
        "verdict": found.verdict,
        "ratio": digits(found.ratio),
        "low": digits(found.low),
        "high": digits(found.high),
        "slowest": found.slowest,
        "fastest": found.fastest,
        "steady-from": found.steady_from,
        "share-without-cipher": None if row.share is None else _ratio(row.share),
    }


def _effect(effect: Effect) -> dict[str, Any]:
    found = effect.ratio
    numbers = (None, None, None) if found is None else tuple(map(digits, found))
    return _work(effect.work) | dict(zip(("ratio", "low", "high"), numbers, strict=True))


def _ratio(found: Ratio) -> dict[str, float]:
    return {name: digits(value) for name, value in found._asdict().items()}

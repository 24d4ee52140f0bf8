"""Which engines are there, which of them work here, and which one is taken.

>>> from qcow2crypt import engines
>>> engines.names()
('native', 'pycryptodome', 'pure', 'reference')
>>> engines.get("pure").name
'pure'

Without a name the environment variable QCOW2CRYPT_ENGINE chooses, and without that the fastest
engine that works here.  A name that is given is kept to: there is no silent way to another engine.
Some engines have variants, chosen with a colon: ``native:aesni`` is native with this kernel.

To add an engine is to add a row to the table below; its module is imported when it is asked for,
not before.  Knows engines by name only, nothing of how they work.
"""

from __future__ import annotations

import os
from importlib import import_module
from types import ModuleType
from typing import NamedTuple

from qcow2crypt.engines.base import Engine, ExpandedKey
from qcow2crypt.engines.report import EngineStatus, Feature, KernelStatus, Status
from qcow2crypt.errors import ArgumentError, EngineUnavailableError, SelfTestError

__all__ = [
    "AUTO",
    "ENVIRONMENT_VARIABLE",
    "Engine",
    "EngineStatus",
    "ExpandedKey",
    "Feature",
    "KernelStatus",
    "Status",
    "available",
    "get",
    "names",
    "status",
]

ENVIRONMENT_VARIABLE = "QCOW2CRYPT_ENGINE"
AUTO = "auto"


class _Row(NamedTuple):
    """One engine.

    ``module``     has a function ``load()`` that gives the Engine
    ``needs``      what must be there for the module to be imported, for messages
    ``automatic``  may be taken without being asked for by name
    ``variants``   the name may go on after a colon, as in "name:variant"; then ``load(variant)``
                   gets what stands there, "" for none, and raises EngineUnavailableError for one
                   that it does not have.  The module then also has ``kernels()`` and
                   ``features()``, and the engine an attribute ``kernel``, for ``status``
    """

    name: str
    module: str
    summary: str
    needs: str = ""
    automatic: bool = True
    variants: bool = False


# In order of preference: fastest first.
_TABLE: tuple[_Row, ...] = (
    _Row(
        "native",
        "qcow2crypt.engines.native",
        "C kernels for this processor, many sectors side by side; constant-time",
        needs=(
            "the compiled C kernels, which this installation does not have (install a wheel made "
            "for this platform, or build with a C compiler and QCOW2CRYPT_NATIVE=require, which "
            "tells what is in the way)"
        ),
        variants=True,
    ),
    _Row(
        "pycryptodome",
        "qcow2crypt.engines.pycryptodome",
        "AES in C from the package pycryptodome, many sectors to a call",
        needs="the package pycryptodome (pip install pycryptodome)",
    ),
    _Row(
        "pure",
        "qcow2crypt.engines.pure",
        "standard library only, many sectors at a time; not constant-time",
    ),
    _Row(
        "reference",
        "qcow2crypt.engines.reference",
        "the textbook, to compare with; very slow, not constant-time",
        automatic=False,
    ),
)

_loaded: dict[str, Engine] = {}


def names() -> tuple[str, ...]:
    """All engines, in order of preference, whether or not they work here."""
    return tuple(row.name for row in _TABLE)


def available() -> tuple[str, ...]:
    """The engines that work here, in order of preference."""
    return tuple(engine.name for engine in map(_status, _TABLE) if engine.available)


def status() -> Status:
    """How it stands with all engines, and which is taken.  Tries to load and test all of them.

    >>> status().engines[-1].name
    'reference'
    """
    asked = os.environ.get(ENVIRONMENT_VARIABLE, "")
    why = f"the environment variable {ENVIRONMENT_VARIABLE} asks for '{asked}'"
    if asked in ("", AUTO):
        why = "auto takes the first that works here"
    used = kernel = ""
    try:
        engine = get()
        used, kernel = engine.name, getattr(engine, "kernel", "")
    except EngineUnavailableError as error:
        why = str(error)
    modules = [module for row in _TABLE if (module := _module_with_kernels(row)) is not None]
    return Status(
        used=used,
        kernel=kernel,
        why=why,
        engines=tuple(map(_status, _TABLE)),
        kernels=tuple(kernel for module in modules for kernel in module.kernels()),
        features=tuple(feature for module in modules for feature in module.features()),
    )


def get(engine: str | Engine | None = None) -> Engine:
    """The engine of this name; an Engine is given back as it is.

    None is what QCOW2CRYPT_ENGINE says, and without that "auto": the fastest that works here.
    Raises EngineUnavailableError for a name that is not known or cannot run here; the message
    says why and lists those that can.  Raises ArgumentError for anything that is no engine.
    """
    if isinstance(engine, str):
        return _get(engine, origin="")
    if engine is None:
        chosen = os.environ.get(ENVIRONMENT_VARIABLE, "")
        return _get(
            chosen or AUTO, f" (the environment variable {ENVIRONMENT_VARIABLE} asks for it)"
        )
    if not hasattr(engine, "expand_key"):
        raise ArgumentError(f"an engine is chosen by name, not by {type(engine).__name__}")
    return engine


def _get(name: str, origin: str) -> Engine:
    """The engine ``name``.  ``origin`` tells in messages who wants it."""
    wanted = [row.name for row in _TABLE if row.automatic] if name == AUTO else [name]
    reasons = []
    for candidate in wanted:
        found = _engine_or_reason(candidate)
        if not isinstance(found, str):
            return found
        reasons.append(found)
    working = ", ".join(available())
    raise EngineUnavailableError(
        name, f"{'; '.join(reasons)}{origin}; engines that work here: {working}"
    )


def _engine_or_reason(name: str) -> Engine | str:
    """The engine ``name``, made at its first use, or why there is none.

    Raises SelfTestError: nobody who would take another engine may pass over that.
    """
    if name in _loaded:
        return _loaded[name]
    base, colon, variant = name.partition(":")
    row = next((row for row in _TABLE if row.name == base), None)
    if row is None:
        return "there is no engine of this name"
    if colon and not (row.variants and variant):
        return f"the engine '{base}' has " + ("no variant ''" if row.variants else "no variants")
    try:
        module = import_module(row.module)
        engine: Engine = module.load(variant) if row.variants else module.load()
    except (ImportError, OSError) as error:  # OSError: a C library that cannot be loaded
        return f"it needs {row.needs}: {error}"
    except SelfTestError:
        raise
    except EngineUnavailableError as error:
        return error.reason
    return _loaded.setdefault(name, engine)


def _status(row: _Row) -> EngineStatus:
    try:
        found = _engine_or_reason(row.name)
    except SelfTestError as error:
        found = error.reason
    reason = found if isinstance(found, str) else ""
    return EngineStatus(row.name, available=not reason, reason=reason, summary=row.summary)


def _module_with_kernels(row: _Row) -> ModuleType | None:
    """The module of an engine that has variants; None for others, or where it does not load."""
    try:
        return import_module(row.module) if row.variants else None
    except (ImportError, OSError):
        return None

"""Mutants put in the place of a module, and run against tests, each in a process of its own.

The tests are collected once.  For each mutant that process is forked: in the child the functions of
the module get the code of the mutant, wherever they are known already, and the tests run until one
fails.  A mutant outside of functions, in a constant or a default, cannot be put in that way: its
child begins anew and imports the mutant.  No file is changed.
"""

from __future__ import annotations

import importlib
import importlib.abc
import inspect
import os
import resource
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from types import CodeType, FunctionType, ModuleType
from typing import TextIO

import hypothesis.strategies
import pytest
from mutants import Mutant

LONGEST = 3.0  # times the processor time of the tests without a mutant: more is an endless loop
SHORTEST_LIMIT = 5
WAITING = 600  # seconds of the clock: longer is a deadlock
MEMORY = 6 << 30

# The same examples for each mutant, and no time spent to make a failure small.
hypothesis.settings.register_profile(
    "mutation",
    derandomize=True,
    database=None,
    deadline=None,
    phases=[hypothesis.Phase.explicit, hypothesis.Phase.generate],
    suppress_health_check=list(hypothesis.HealthCheck),
)
_LIMITS = {signal.SIGXCPU, signal.SIGKILL}
_OPTIONS = [
    *("-x", "-q", "--tb=no", "--no-header", "-p", "no:cacheprovider", "-p", "no:xdist"),
    *("-W", "ignore:Module already imported:pytest.PytestAssertRewriteWarning"),
    "--hypothesis-profile=mutation",
]


@dataclass
class Run:
    """A module under test, its tests and its mutants; ``report`` is told what came of each."""

    name: str
    source: str
    tests: list[str]
    mutants: list[Mutant]
    report: TextIO
    parent: bool = True

    # ------------------------------------------------------------------- hooks of pytest

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self) -> object:
        """In place of the tests: one child for each mutant, and there the tests."""
        module = importlib.import_module(self.name)
        child = os.fork()
        if not child:
            self._begin_child(None)
            return None
        result, seconds = _wait(child)
        print(result, file=self.report, flush=True)
        limit = max(SHORTEST_LIMIT, int(LONGEST * seconds))
        for mutant in self.mutants if result == "survived" else ():
            child = os.fork()
            if not child:
                self._begin_child(limit)
                if _put_in(module, self.source, mutant.source):
                    return None  # pytest goes on to the tests
                self._begin_anew(mutant)
            print(_wait(child)[0], file=self.report, flush=True)
        return True

    def _begin_child(self, limit: int | None) -> None:
        os.setsid()
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
        if limit is not None:
            resource.setrlimit(resource.RLIMIT_CPU, (limit, limit + 1))
        self.parent = False

    def _begin_anew(self, mutant: Mutant) -> None:
        """Forget all that was imported of ours, and begin with the mutant."""
        for name in list(sys.modules):
            if name.split(".")[0] in {"qcow2crypt", "support", "tests", "conftest", "oracles"}:
                del sys.modules[name]
        sys.meta_path.insert(0, _Finder(self.name, mutant.source))
        os._exit(_pytest([*self.tests]))

    def run_all(self) -> None:
        """Run the tests without a mutant, and if they pass, with each of the mutants."""
        quiet = os.open(os.devnull, os.O_WRONLY)
        os.dup2(quiet, 1)
        os.dup2(quiet, 2)
        status = _pytest(self.tests, self)
        if not self.parent:
            os._exit(status)


def _pytest(tests: list[str], plugin: object | None = None) -> int:
    try:
        return int(pytest.main([*_OPTIONS, *tests], plugins=[plugin] if plugin else []))
    except BaseException:  # noqa: BLE001 - a mutant may raise anything
        return 1


def _wait(child: int) -> tuple[str, float]:
    """What became of a child, "survived", "killed" or "timeout", and its processor time."""
    end = time.monotonic() + WAITING
    while True:
        done, status, usage = os.wait4(child, os.WNOHANG)
        if done:
            by_limit = os.WIFSIGNALED(status) and os.WTERMSIG(status) in _LIMITS
            result = "timeout" if by_limit else "killed" if status else "survived"
            return result, usage.ru_utime + usage.ru_stime
        if time.monotonic() > end:
            os.killpg(child, signal.SIGKILL)
            end += WAITING
        time.sleep(0.01)


# ----------------------------------------------------------------------- into a module in use


def _put_in(module: ModuleType, source: str, mutated: str) -> bool:
    """Give the functions of a module the code of a mutant; False where that is not all of it."""
    path = str(module.__file__)
    old, new = (compile(text, path, "exec", dont_inherit=True) for text in (source, mutated))
    pairs = _functions(old, new, "")
    if pairs is None:
        return False
    live = dict(_live(module, module.__name__, ""))
    for name, (before, after) in pairs.items():
        if _alike(before, after):
            continue
        if name not in live or live[name].__code__.co_freevars != after.co_freevars:
            return False
        live[name].__code__ = after
    for value in vars(module).values():
        if clear := getattr(value, "cache_clear", None):
            clear()
    return True


def _functions(
    old: CodeType, new: CodeType, prefix: str
) -> dict[str, tuple[CodeType, CodeType]] | None:
    """The code of all functions by qualified name; None where the code around them differs."""
    if old.co_code != new.co_code or old.co_names != new.co_names:
        return None
    if len(old.co_consts) != len(new.co_consts):
        return None
    found: dict[str, tuple[CodeType, CodeType]] = {}
    for a, b in zip(old.co_consts, new.co_consts, strict=True):
        if not (isinstance(a, CodeType) and isinstance(b, CodeType)):
            if repr(a) != repr(b):
                return None
        elif a.co_flags & inspect.CO_NEWLOCALS:
            name = prefix + a.co_name
            if name in found:  # two lambdas, or a property and its setter
                if not (_alike(a, b) and _alike(*found[name])):
                    return None
                continue
            found[name] = (a, b)
        else:
            inside = _functions(a, b, f"{prefix}{a.co_name}.")
            if inside is None:
                return None
            found |= inside
    return found


def _alike(a: CodeType, b: CodeType) -> bool:
    """Whether two code objects do the same; their places in the text do not count."""
    if (a.co_code, a.co_names, a.co_varnames) != (b.co_code, b.co_names, b.co_varnames):
        return False
    if len(a.co_consts) != len(b.co_consts):
        return False
    return all(
        _alike(x, y) if isinstance(x, CodeType) and isinstance(y, CodeType) else repr(x) == repr(y)
        for x, y in zip(a.co_consts, b.co_consts, strict=True)
    )


def _live(owner: object, module: str, prefix: str) -> Iterator[tuple[str, FunctionType]]:
    """The functions that a module or class has now, by qualified name."""
    for name, value in vars(owner).items():
        inner = value.fget if isinstance(value, property) else value
        inner = getattr(inner, "__func__", inner)
        inner = inspect.unwrap(inner) if callable(inner) else inner
        if isinstance(inner, FunctionType) and inner.__module__ == module:
            yield prefix + name, inner
        elif isinstance(value, type) and value.__module__ == module and not prefix:
            yield from _live(value, module, f"{name}.")


# ----------------------------------------------------------------------------- by an import


class _Loader(SourceFileLoader):
    """Loads one module from other code than that of its file."""

    def __init__(self, name: str, path: str, source: str) -> None:
        super().__init__(name, path)
        self._source = source

    def get_code(self, fullname: str) -> CodeType:  # noqa: ARG002 - it is the name of __init__
        return compile(self._source, self.path, "exec", dont_inherit=True)


class _Finder(importlib.abc.MetaPathFinder):
    """Puts a mutant in the place of its module."""

    def __init__(self, name: str, source: str) -> None:
        self._name = name
        self._source = source

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != self._name:
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is None or spec.origin is None:
            return None
        spec.loader = _Loader(fullname, spec.origin, self._source)
        return spec

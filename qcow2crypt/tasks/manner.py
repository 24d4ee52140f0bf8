"""How a disk is copied: what has no part in the bytes of the result."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

from qcow2crypt.errors import ArgumentError
from qcow2crypt.pagecache import CACHE_MODES, CacheMode
from qcow2crypt.tasks.pipeline import checked_threads
from qcow2crypt.tasks.ratelimit import RateLimit

__all__ = ["USUAL", "CacheMode", "Manner"]


class _Fields(NamedTuple):
    threads: int | None
    rate_limit: int | None
    target_cache: CacheMode | None
    source_cache: CacheMode


class Manner(_Fields):
    """How a disk is copied.

    ``threads``       1 to 16 read and write side by side; None: as many as there are processors,
                      up to four
    ``rate_limit``    so many guest bytes a second are stored at most; None or 0: no limit
    ``target_cache``  ``unsafe``: the target is not synced before it takes its name; ``none`` and
                      ``directsync``: it leaves the page cache; None: it does that if it is large;
                      the other words: neither
    ``source_cache``  ``none`` and ``directsync``: what was read leaves the page cache

    Raises ArgumentError.
    """

    __slots__ = ()

    def __new__(
        cls,
        threads: int | None = None,
        rate_limit: int | None = None,
        target_cache: CacheMode | None = None,
        source_cache: CacheMode = "writeback",
    ) -> Manner:
        """Refuse what cannot be."""
        checked_threads(threads)
        if rate_limit is not None and rate_limit < 0:
            raise ArgumentError(f"a rate is 0 or more bytes a second, not {rate_limit}")
        for mode in (target_cache, source_cache):
            if mode is not None and mode not in CACHE_MODES:
                raise ArgumentError(f"a cache mode is one of {', '.join(CACHE_MODES)}, not {mode}")
        return super().__new__(cls, threads, rate_limit, target_cache, source_cache)

    @classmethod
    def _make(cls, iterable: Iterable[Any]) -> Manner:  # type: ignore[override]
        return cls(*iterable)  # for _replace: checked as well

    def workers(self) -> int:
        """How many threads there are."""
        return checked_threads(self.threads)

    def limit(self) -> RateLimit | None:
        """A new limit of the rate, or None."""
        return RateLimit(self.rate_limit) if self.rate_limit else None


USUAL = Manner()
"""As it is done when nobody says otherwise."""

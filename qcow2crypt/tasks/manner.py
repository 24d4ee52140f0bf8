"""How a disk is copied: what has no part in the bytes of the result."""

from __future__ import annotations

from dataclasses import dataclass

from qcow2crypt.errors import ArgumentError
from qcow2crypt.pagecache import CACHE_MODES, CacheMode
from qcow2crypt.tasks.pipeline import checked_threads
from qcow2crypt.tasks.ratelimit import RateLimit

__all__ = ["USUAL", "CacheMode", "Manner"]


@dataclass(frozen=True, slots=True)
class Manner:
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

    threads: int | None = None
    rate_limit: int | None = None
    target_cache: CacheMode | None = None
    source_cache: CacheMode = "writeback"

    def __post_init__(self) -> None:
        checked_threads(self.threads)
        if self.rate_limit is not None and self.rate_limit < 0:
            raise ArgumentError(f"a rate is 0 or more bytes a second, not {self.rate_limit}")
        for mode in (self.target_cache, self.source_cache):
            if mode is not None and mode not in CACHE_MODES:
                raise ArgumentError(f"a cache mode is one of {', '.join(CACHE_MODES)}, not {mode}")

    def workers(self) -> int:
        """How many threads there are."""
        return checked_threads(self.threads)

    def limit(self) -> RateLimit | None:
        """A new limit of the rate, or None."""
        return RateLimit(self.rate_limit) if self.rate_limit else None


USUAL = Manner()
"""As it is done when nobody says otherwise."""

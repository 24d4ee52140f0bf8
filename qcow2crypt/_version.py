"""The version, said once: the build reads it from here, and so does ``qcow2crypt --version``."""

from __future__ import annotations

__version__ = "0.1.0.dev0"

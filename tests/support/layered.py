"""An image over a backing file, for the QEMU tools: each layer may have a passphrase of its own."""

from __future__ import annotations

from dataclasses import dataclass

from qcow2crypt.testing.witness import Disk


@dataclass(frozen=True)
class LayeredDisk(Disk):
    """An image and its backing file; options name the passphrase of either."""

    base: Disk | None = None

    def secret(self, name: str) -> list[str]:
        extra = self.base.secret(f"{name}b") if self.base else []
        return [*super().secret(name), *extra]

    def options(self, name: str) -> str:
        if self.base is None or not self.base.encrypted:
            return super().options(name)
        backing = f",backing.driver=qcow2,backing.encrypt.key-secret={name}b"
        return f"{super().options(name)}{backing}"

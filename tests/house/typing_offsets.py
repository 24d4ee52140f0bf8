"""Checked by mypy and never run: guest offsets, host offsets and sectors cannot be mixed up.

Every line below is wrong, and mypy must say so: under ``strict`` an ``ignore`` that is not
needed is an error itself.  Legacy AES counts guest sectors; to count host sectors is the mistake.
"""

from __future__ import annotations

from qcow2crypt.image.base import Extent, ExtentKind
from qcow2crypt.units import GuestOffset, HostOffset, SectorNumber, guest_sector, host_sector

guest_sector(HostOffset(512))  # type: ignore[arg-type]
host_sector(GuestOffset(512))  # type: ignore[arg-type]
guest_sector(SectorNumber(1))  # type: ignore[arg-type]
guest_sector(512)  # type: ignore[arg-type]
Extent(ExtentKind.DATA, HostOffset(0), 512, HostOffset(0))  # type: ignore[arg-type]
Extent(ExtentKind.DATA, GuestOffset(0), 512, GuestOffset(0))  # type: ignore[arg-type]
offset: GuestOffset = guest_sector(GuestOffset(512))  # type: ignore[assignment]

"""What stands at an offset of a file: the function, for people.  Never fails, at worst a number."""

from __future__ import annotations

import functools
from pathlib import PurePath

from qcow2crypt.errors import ProbeError
from qcow2crypt.probe.elf import Elf


@functools.lru_cache(maxsize=64)
def elf_of(path: str) -> Elf | None:
    """The file, or None where it is none or cannot be read."""
    try:
        return Elf.read(path)
    except ProbeError:
        return None


@functools.lru_cache(maxsize=4096)
def function_name(path: str, offset: int) -> str:
    """The function that holds a byte of a file, such as ``AES_encrypt``.

    A function without a name is told by where it begins, ``+0x1234``; empty where nobody knows.
    """
    elf = elf_of(path)
    try:
        address = elf.address_of(offset) if elf else None
        found = elf.function_at(address) if elf and address is not None else None
    except ProbeError:
        return ""
    if found is None:
        return ""
    return found.name or f"+{found.address:#x}"


def place_name(path: str, offset: int) -> str:
    """File and function, or file and offset: ``libnettle.so.8 nettle_cbc_encrypt+0x12``."""
    name = PurePath(path).name
    elf, function = elf_of(path), function_name(path, offset)
    if elf is None or not function:
        return f"{name} {offset:#x} in the file"
    address = elf.address_of(offset) or 0
    found = elf.function_at(address)
    if found is None or function.startswith("+"):
        return f"{name} {address:#x}, in the function at {function[1:]}"
    return f"{name} {function}+{address - found.address:#x}"

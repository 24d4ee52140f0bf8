"""What does the AES in a program: its own AES instructions, tables in software, or the kernel?

    >>> from qcow2crypt import probe
    >>> report = probe.examine_qemu("qemu-img")                      # doctest: +SKIP
    >>> report.findings[0].verdict.kind                              # doctest: +SKIP
    'hardware'

Three steps, with the standard library alone, without root, symbols or a debugger: find the AES
instructions in every file that a program maps (``instructions``); trace it with a breakpoint on
each, to see which run (``tracer``); count those, and reads of the tables of software AES, for two
payload sizes (``examine``).  What grows with the payload decides (``verdict``).

Words of this part: a *site* is an AES instruction in a file; a *hit* is its first execution; a
*place* is a file and an offset in it; an *address* is one of memory, or where an ELF file wants to
lie in it; the *payload* is what a program is given to encrypt or decrypt; *per block* is what one
more block of payload adds to a count.
"""

from __future__ import annotations

from qcow2crypt.probe.cpu import Cpu, Feature
from qcow2crypt.probe.cpu import look as processor
from qcow2crypt.probe.doctor import (
    FORMATS,
    Finding,
    Report,
    examine_all,
    examine_command,
    examine_qemu,
    examine_self,
)
from qcow2crypt.probe.evidence import Evidence
from qcow2crypt.probe.qemu import on_path as qemu_on_path
from qcow2crypt.probe.report import as_dict
from qcow2crypt.probe.verdict import VERDICTS, Verdict, decide

__all__ = [
    "FORMATS",
    "VERDICTS",
    "Cpu",
    "Evidence",
    "Feature",
    "Finding",
    "Report",
    "Verdict",
    "as_dict",
    "decide",
    "examine_all",
    "examine_command",
    "examine_qemu",
    "examine_self",
    "processor",
    "qemu_on_path",
]

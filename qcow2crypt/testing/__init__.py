"""Hold an implementation of qcow2 against QEMU: cases, and the programs that carry them out.

case         which images there are and what is done to them, as plain values
rules        which cases can be, and have one right content
generate     random cases: ``make_case``
script       a case as commands of qemu-img and qemu-io, or as a shell script
tools        the programs of QEMU carry out a case, read it and check it
ours         our library does the same
"""

from __future__ import annotations

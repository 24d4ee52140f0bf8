"""Hold an implementation of qcow2 against QEMU: cases, and the programs that carry them out.

case         which images there are and what is done to them, as plain values
rules        which cases can be, and have one right content
generate     random cases: ``make_case``
script       a case as commands of qemu-img and qemu-io, or as a shell script
tools        the programs of QEMU carry out a case, read it and check it
ours         our library does the same
textbook     a slow reader that shares no code with ours
regions      what each host cluster is, and whether its refcount is high enough
recording    a file that remembers every write, and the disk after a power failure
"""

from __future__ import annotations

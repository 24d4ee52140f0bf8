"""Find what differs between two implementations of qcow2, ours or anyone's, and show it small.

examining   one case: made by QEMU, read by oracle and subject, written by the subject's writer
shrinking   from a case that shows a difference to a small one that still shows it
report      a folder that one can send to the authors
run         thousands of cases on several cores, with an end, and to be gone on with
engines     all engines and kernels of this package against other libraries
versions    several builds of QEMU against each other
"""

from __future__ import annotations

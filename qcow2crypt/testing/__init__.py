"""Test any implementation of qcow2: cases, values to draw, a machine, QEMU as a witness, a corpus.

case         which images there are and what is done to them, as plain values
rules        which cases can be, and have one right content
generate     random cases: ``make_case``
script       a case as commands of qemu-img and qemu-io, or as a shell script
tools        the programs of QEMU carry out a case, read it and check it
ours         our library does the same
textbook     a slow reader that shares no code with ours
regions      what each host cluster is, and whether its refcount is high enough
recording    a file that remembers every write, and the disk after a power failure

strategies   hypothesis: keys, passphrases, sectors, layers, operations, cases
images       hypothesis: whole images, made by us or by QEMU, and damaged ones
machine      a rule-based state machine to subclass
fixtures     a plugin for pytest
witness      qemu-img and qemu-io for tests, with their version in every failure
corpus       hundreds of tiny images, sound and damaged, each with what is known of it
damage       damaged images, and what must become of them

``pip install 'qcow2crypt[testing]'`` brings hypothesis and pytest: strategies, images and machine
need the one, fixtures the other.  Nothing outside of this folder imports these, so
``import qcow2crypt`` needs neither.  docs/testing.md tells how all this is used.
"""

from __future__ import annotations

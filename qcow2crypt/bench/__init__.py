"""How fast is it here: engines, conversions and random requests, beside QEMU in the same run.

``run.measure`` does it all and gives one document of plain values; everything that is shown (the
table, the report) is made from that document alone.  ``answer`` tells in words whether
performance depends on the cluster size; it is a function of the figures of the run.
"""

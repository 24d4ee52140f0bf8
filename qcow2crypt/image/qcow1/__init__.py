"""qcow version 1, read only: a header and two tables of its own, the data as in qcow2."""

"""The qcow2 format, versions 2 and 3: pure layouts first, then the tables, then the disk."""

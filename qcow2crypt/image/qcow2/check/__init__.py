"""Hold the metadata of a qcow2 file against itself, and repair it."""

"""Change a qcow2 file in place: guest bytes anywhere, in an order that survives a crash."""

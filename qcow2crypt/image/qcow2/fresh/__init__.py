"""Write a new qcow2 file: where QEMU would put each cluster, then the bytes."""

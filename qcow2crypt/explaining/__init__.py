"""What lies where in an image file, and how one byte of a guest disk comes to be what it is."""

"""What can be done with whole images: a module for each, named for the doing."""

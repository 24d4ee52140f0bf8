"""Change much metadata at once: new tables beside the old ones, one write that switches."""

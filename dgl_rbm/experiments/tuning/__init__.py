"""Search for the options of a run on validation nodes."""

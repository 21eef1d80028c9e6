"""Several methods on several graphs, settings and seeds, under one protocol."""

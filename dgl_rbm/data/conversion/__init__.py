"""Tasks from the graphs of other libraries, and from arrays."""

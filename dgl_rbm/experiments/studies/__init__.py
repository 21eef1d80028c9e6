"""The studies of the RbM paper, each one command: ``dgl-rbm study NAME``."""

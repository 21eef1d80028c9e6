"""Output of the command line: progress, tables, errors, signals. Only `dgl_rbm.commands` imports it."""

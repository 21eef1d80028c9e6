"""Published methods as data: one small YAML file each, with provenance, and the published settings by dataset."""

from dgl_rbm.methods.catalogue import Method, load_method, method_names

__all__ = ["Method", "load_method", "method_names"]

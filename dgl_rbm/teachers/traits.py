"""Optional attributes of a teacher's module, read in one place."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

__all__ = ["ModuleTraits"]


@dataclass(frozen=True)
class ModuleTraits:
    """Size and accepted inputs of a module; any `nn.Module` is a legal teacher, so each attribute may be missing.

    Attributes
    ----------
    hidden_dim : int or None
        Columns of the hidden layers; None if unknown.
    num_layers : int or None
        Number of layers, which is how many hops a prediction depends on; None if unknown.
    reads_sparse : bool
        Whether ``module(graph, x)`` accepts `SparseRows`; by default features are made dense.
    reads_csc : bool
        Whether it accepts a `CSCGraph` in place of DGL's graphs and runs under autocast; by default it stays on
        devices that DGL supports, in float32.
    """

    hidden_dim: int | None
    num_layers: int | None
    reads_sparse: bool
    reads_csc: bool

    @classmethod
    def of(cls, module: nn.Module) -> ModuleTraits:
        """Read the attributes of the same names from `module`."""
        return cls(
            hidden_dim=getattr(module, "hidden_dim", None),
            num_layers=getattr(module, "num_layers", None),
            reads_sparse=bool(getattr(module, "reads_sparse", False)),
            reads_csc=bool(getattr(module, "reads_csc", False)),
        )

"""Values computed from parameters and kept while these do not change, so that serving computes them once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

import torch
from torch import Tensor

__all__ = ["Derived"]

T = TypeVar("T")


class Derived(Generic[T]):
    """A value derived from tensors, computed anew when one of them was written, moved or replaced.

    With gradients enabled nothing is kept: the value is then a part of the graph of one step, and the parameters are
    about to be written. This matters where they are written by an optimiser of torch's that is fused and does not
    count its writes.
    """

    def __init__(self) -> None:
        # Key and value in one attribute: threads that predict at the same time see both or neither.
        self._kept: tuple[tuple[tuple[int, int], ...], T] | None = None

    def get(self, sources: Sequence[Tensor], compute: Callable[[], T]) -> T:
        """Return the kept value, or what `compute` returns.

        Parameters
        ----------
        sources : sequence of Tensor
            All that `compute` reads.
        compute : callable
            Makes the value.
        """
        # Tensors made in inference mode do not count how often they are written.
        if torch.is_grad_enabled() or any(source.is_inference() for source in sources):
            self._kept = None
            return compute()
        key = tuple((source.data_ptr(), source._version) for source in sources)
        kept = self._kept
        if kept is None or kept[0] != key:
            kept = self._kept = (key, compute())
        return kept[1]

    def __deepcopy__(self, memo: object) -> Derived[T]:
        return Derived()

"""Values computed from parameters and kept while a student serves, so that they are computed once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from typing_extensions import Self

__all__ = ["Derived", "Serving"]


class Derived:
    """A value derived from tensors: computed in each call, or kept from call to call while serving.

    A kept value is computed anew when torch has counted a write to one of the tensors, or one was moved or replaced.
    torch counts no writes through ``.data``, and none of its fused optimisers; that is why a value is only kept after
    `Student.serve`, and forgotten as soon as anyone trains.
    """

    def __init__(self) -> None:
        self.keeping = False
        # Key and value in one attribute: threads that predict at the same time see both or neither.
        self._kept: tuple[tuple[tuple[int, int], ...], Any] | None = None

    def keep(self, keeping: bool) -> None:
        """Keep values from now on, or no longer; what is kept is forgotten."""
        self.keeping = keeping
        self._kept = None

    def forget(self) -> None:
        """Compute the value anew when it is next asked for."""
        self._kept = None

    def get(self, sources: Sequence[Tensor], compute: Callable[[], Any]) -> Any:
        """Return the kept value, or what `compute` returns.

        Parameters
        ----------
        sources : sequence of Tensor
            All that `compute` reads.
        compute : callable
            Makes the value.
        """
        # Tensors made in inference mode do not count how often they are written.
        if torch.is_grad_enabled() or not self.keeping or any(source.is_inference() for source in sources):
            self.forget()
            return compute()
        key = tuple((source.data_ptr(), source._version) for source in sources)
        kept = self._kept
        if kept is None or kept[0] != key:
            kept = self._kept = (key, compute())
        return kept[1]

    def __reduce__(self) -> tuple[Any, ...]:
        # Copies and pickles are without the value, which can be had again.
        return _restore, (self.keeping,)


def _restore(keeping: bool) -> Derived:
    derived: Derived = Derived()
    derived.keep(keeping)
    return derived


class Serving(nn.Module):
    """Base of the modules that keep derived values while serving; training ends it."""

    def __init__(self) -> None:
        super().__init__()
        self.derived: Derived = Derived()

    def serve(self) -> None:
        """Keep derived values from now on; call it again after a write that torch does not count."""
        self.derived.keep(True)

    @property
    def serves(self) -> bool:
        """Whether derived values are at hand: `serve` was called, and no gradients are asked for."""
        return self.derived.keeping and not torch.is_grad_enabled()

    def train(self, mode: bool = True) -> Self:
        if mode:
            self.derived.keep(False)
        return super().train(mode)

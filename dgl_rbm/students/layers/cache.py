"""Cache of values computed from parameters, for modules in serving mode."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from typing_extensions import Self

__all__ = ["CachingModule", "DerivedCache"]


class DerivedCache:
    """One value derived from tensors: computed in each call, or cached between calls while enabled.

    The value is recomputed after torch counted a write to a source tensor, or after one was moved or replaced.
    torch counts neither writes through ``.data`` nor those of its fused optimisers. The cache is therefore enabled only
    by `Student.serve` and disabled by training mode.
    """

    def __init__(self) -> None:
        self.enabled = False
        # Key and value in one attribute: concurrent threads see both or neither.
        self._cached: tuple[tuple[tuple[int, int], ...], Any] | None = None

    def enable(self, enabled: bool) -> None:
        """Enable or disable the cache, and clear it."""
        self.enabled = enabled
        self._cached = None

    def clear(self) -> None:
        """Drop the cached value; the next call computes it."""
        self._cached = None

    def get(self, sources: Sequence[Tensor], compute: Callable[[], Any]) -> Any:
        """Return the cached value, or the result of `compute`.

        Parameters
        ----------
        sources : sequence of Tensor
            All tensors that `compute` reads.
        compute : callable
            Computes the value.
        """
        # Tensors created in inference mode have no version counter.
        if torch.is_grad_enabled() or not self.enabled or any(source.is_inference() for source in sources):
            self.clear()
            return compute()
        key = tuple((source.data_ptr(), source._version) for source in sources)
        cached = self._cached
        if cached is None or cached[0] != key:
            cached = self._cached = (key, compute())
        return cached[1]

    def __reduce__(self) -> tuple[Any, ...]:
        # Copies and pickles leave out the value, which can be recomputed.
        return _restore, (self.enabled,)


def _restore(enabled: bool) -> DerivedCache:
    cache = DerivedCache()
    cache.enable(enabled)
    return cache


class CachingModule(nn.Module):
    """Base of the modules that cache derived values in serving mode; training mode ends it."""

    def __init__(self) -> None:
        super().__init__()
        self.cache = DerivedCache()

    def serve(self) -> None:
        """Cache derived values from now on; call it again after a write that torch does not count."""
        self.cache.enable(True)

    @property
    def serving(self) -> bool:
        """Whether derived values are cached: after `serve`, and while gradients are disabled."""
        return self.cache.enabled and not torch.is_grad_enabled()

    def train(self, mode: bool = True) -> Self:
        if mode:
            self.cache.enable(False)
        return super().train(mode)

"""Sends rows to the experts that their gates name and mixes what comes back: Σ_e gate_e · (x W_e + b_e).

Blocks of rows are taken one after another. In a block the (row, expert) pairs are sorted by expert, so that each
expert multiplies one contiguous slice, and `embedding_bag` gathers, weighs and adds up each row's k results in one
pass. No [k · B, N] tensor of all results exists: what one block needs fits into the caches of the processor, where
one buffer of the whole batch would be fetched anew from memory in each of these steps.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.functional import embedding_bag

from dgl_rbm.sparse import Rows, SparseRows, StructuredRows
from dgl_rbm.stacked import StackedRows

__all__ = ["mix"]

# Values of the widest of a block's rows: with three experts a row, some 12 MiB of gathered rows.
_BLOCK_VALUES = 2**20
_FEWEST_ROWS = 1024


def mix(x: Rows, gates: Tensor, weights: Tensor, bias: Tensor) -> Tensor:
    """Return ``Σ_e gates[:, e] · (x @ weights[e] + bias[e])``, computed for the gates that are not zero.

    Parameters
    ----------
    x : Tensor, SparseRows or StackedRows
        ``[B, F]``.
    gates : Tensor
        ``[B, E]``; gradients flow into those that are not zero.
    weights, bias : Tensor
        ``[E, F, N]`` and ``[E, N]``.

    Returns
    -------
    Tensor
        ``[B, N]``, of the type of `weights`.
    """
    if isinstance(x, StackedRows):
        total: Tensor | None = None
        for part, of_part in zip(x.parts, weights.split(x.widths, dim=1), strict=True):
            mixed = mix(part, gates, of_part, bias if total is None else torch.zeros_like(bias))
            total = mixed if total is None else total + mixed
        assert total is not None
        return total
    if isinstance(x, StructuredRows):
        return _SparseMix.apply(gates, weights, bias, x)
    return _DenseMix.apply(x, gates, weights, bias)


class _Block(NamedTuple):
    """The (row, expert) pairs of a block of rows.

    Attributes
    ----------
    part : slice
        The block's rows.
    rows : Tensor
        Row of each pair, expert after expert, int64 ``[P]``.
    slices : list of (int, slice)
        Each expert that has pairs, and where they lie.
    active : Tensor
        Whether each row, down, goes to each expert, across; bool ``[b, E]``.
    places, starts : Tensor
        Where each row's pairs lie, row after row, int64 ``[P]``, and where each row's places begin, ``[b]``.
    """

    part: slice
    rows: Tensor
    slices: list[tuple[int, slice]]
    active: Tensor
    places: Tensor
    starts: Tensor

    def by_row(self, gates: Tensor) -> Tensor:
        """Return the gates of the pairs, row after row, ``[P]``."""
        return gates[self.part][self.active]

    def by_expert(self, gates: Tensor) -> Tensor:
        """Return the gates of the pairs, expert after expert, ``[P]``."""
        return gates[self.part].t()[self.active.t()]


def _blocks(gates: Tensor, widest: int) -> Iterator[_Block]:
    count = gates.shape[0]
    # A GPU has no such caches, and each block costs it a wait for the sizes.
    size = max(_FEWEST_ROWS, _BLOCK_VALUES // widest) if gates.device.type == "cpu" else max(1, count)
    for start in range(0, count, size):
        part = slice(start, min(start + size, count))
        active = gates[part] != 0
        turned = active.t().contiguous()
        sizes = turned.sum(dim=1).tolist()
        slices, end = [], 0
        for expert, pairs in enumerate(sizes):
            if pairs:
                slices.append((expert, slice(end, end + pairs)))
            end += pairs
        order = (turned.view(-1).cumsum(0) - 1).view(turned.shape)
        per_row = active.sum(dim=1)
        yield _Block(
            part,
            turned.nonzero()[:, 1] + start,
            slices,
            active,
            order.t()[active],
            per_row.cumsum(0) - per_row,
        )


class _DenseMix(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, gates: Tensor, weights: Tensor, bias: Tensor) -> Tensor:
        ctx.save_for_backward(x, gates, weights, bias)
        width = weights.shape[2]
        mixed = weights.new_empty(x.shape[0], width)
        for block in _blocks(gates, max(weights.shape[1:])):
            results = weights.new_empty(len(block.rows), width)
            for expert, pairs in block.slices:
                torch.mm(x.index_select(0, block.rows[pairs]), weights[expert], out=results[pairs])
            mixed[block.part] = _add_up(results, block, gates).addmm_(gates[block.part], bias)
        return mixed

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        x, gates, weights, bias = ctx.saved_tensors
        needs_x, needs_gates, needs_weights, needs_bias = ctx.needs_input_grad
        of_x = torch.empty_like(x) if needs_x else None
        of_gates = torch.zeros_like(gates) if needs_gates else None
        of_weights = torch.zeros_like(weights) if needs_weights else None
        for block in _blocks(gates, max(weights.shape[1:])):
            by_expert = block.by_expert(gates).unsqueeze(1)
            back = x.new_empty(len(block.rows), x.shape[1]) if needs_x or needs_gates else None
            for expert, pairs in block.slices:
                rows = block.rows[pairs]
                upstream = gradient.index_select(0, rows)
                if back is not None:
                    torch.mm(upstream, weights[expert].t(), out=back[pairs])
                if of_weights is not None:
                    inputs = x.index_select(0, rows)
                    # Whichever is narrower takes the gates.
                    narrow = upstream if upstream.shape[1] < inputs.shape[1] else inputs
                    narrow.mul_(by_expert[pairs])
                    of_weights[expert].addmm_(inputs.t(), upstream)
            if of_gates is not None:
                assert back is not None
                pulls = torch.linalg.vecdot(x.index_select(0, block.rows), back)
                turned = block.active.t()
                of_block = torch.zeros_like(turned, dtype=gates.dtype).masked_scatter_(turned, pulls).t()
                of_gates[block.part] = torch.where(block.active, of_block + gradient[block.part] @ bias.t(), of_block)
            if of_x is not None:
                assert back is not None
                of_x[block.part] = _add_up(back, block, gates)
        return of_x, of_gates, of_weights, gates.t() @ gradient if needs_bias else None


def _add_up(results: Tensor, block: _Block, gates: Tensor) -> Tensor:
    """Return, for each row of the block, the sum of its results weighted by its gates."""
    return embedding_bag(block.places, results, block.starts, mode="sum", per_sample_weights=block.by_row(gates))


class _SparseMix(torch.autograd.Function):
    """All rows go through every expert in use: to cut a part out of sparse rows costs more than its products save."""

    @staticmethod
    def forward(ctx: Any, gates: Tensor, weights: Tensor, bias: Tensor, rows: SparseRows) -> Tensor:
        mixed = gates @ bias
        ctx.used = (gates != 0).any(dim=0).tolist()
        ctx.products = [None] * len(ctx.used)
        for expert, used in enumerate(ctx.used):
            if used:
                product = rows.csr @ weights[expert]
                mixed.addcmul_(product, gates[:, expert, None])
                if ctx.needs_input_grad[0]:
                    ctx.products[expert] = product
        ctx.rows, ctx.shape = rows, weights.shape
        ctx.save_for_backward(gates, bias)
        return mixed

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        gates, bias = ctx.saved_tensors
        needs_gates, needs_weights, needs_bias, _ = ctx.needs_input_grad
        of_gates = torch.zeros_like(gates) if needs_gates else None
        of_weights = gradient.new_zeros(ctx.shape) if needs_weights else None
        for expert, used in enumerate(ctx.used):
            if not used:
                continue
            gate = gates[:, expert]
            if of_weights is not None:
                of_weights[expert] = ctx.rows.transposed() @ (gradient * gate.unsqueeze(1))
            if of_gates is not None:
                pulls = torch.linalg.vecdot(gradient, ctx.products[expert] + bias[expert])
                of_gates[:, expert] = torch.where(gate != 0, pulls, torch.zeros_like(pulls))
        return of_gates, of_weights, gates.t() @ gradient if needs_bias else None, None

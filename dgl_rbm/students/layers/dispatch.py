"""Dispatch of rows to the experts with nonzero gates, and the mix of their outputs: Σ_e gate_e · (x W_e + b_e).

Rows are processed in blocks. In a block the (row, expert) pairs are sorted by expert, so that each expert multiplies
one contiguous slice, and `embedding_bag` gathers, weights and adds each row's k results in one pass. No [k · B, N]
tensor of all results exists: a block fits into the processor's caches, whereas a buffer of the whole batch would be
read from memory again in each of these steps.

On a GPU, experts with gates of zero are computed too if that is faster than launching one product per expert: the rows
are repeated for each expert, scaled by its gate, and one product multiplies [g_1 x, ..., g_E x] by the stacked W_e.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.functional import embedding_bag

from dgl_rbm.precision import autocast_inputs, in_float32
from dgl_rbm.rows.sparse import Rows, SparseRows, StructuredRows
from dgl_rbm.rows.stacked import StackedRows

__all__ = ["mix"]

# Values of a block at the widest layer: with three experts per row, some 12 MiB of gathered rows.
_BLOCK_VALUES = 2**20
_FEWEST_ROWS = 1024
# Limits of the single product on a GPU: experts, multiply-adds, and values of the repeated rows.
_STACKED_EXPERTS = 16
_STACKED_PRODUCTS = 2**35
_STACKED_VALUES = 2**26


def mix(x: Rows, gates: Tensor, weights: Tensor, bias: Tensor) -> Tensor:
    """Return ``Σ_e gates[:, e] · (x @ weights[e] + bias[e])``.

    Computed for the nonzero gates alone; on a GPU for all gates if the product is small enough.

    Parameters
    ----------
    x : Tensor, SparseRows or StackedRows
        ``[B, F]``.
    gates : Tensor
        ``[B, E]``; gradients flow into the nonzero ones.
    weights, bias : Tensor
        ``[E, F, N]`` and ``[E, N]``.

    Returns
    -------
    Tensor
        ``[B, N]``, with the dtype of `weights`; bfloat16 under autocast, but float32 for structured rows.
    """
    if isinstance(x, StackedRows):
        total: Tensor | None = None
        for part, of_part in zip(x.parts, weights.split(x.widths, dim=1), strict=True):
            mixed = mix(part, gates, of_part, bias if total is None else torch.zeros_like(bias))
            total = mixed if total is None else total + mixed
        assert total is not None
        return total
    if isinstance(x, StructuredRows):
        with in_float32(x.device):
            return _SparseMix.apply(gates.float(), weights.float(), bias.float(), x)
    mix_rows = _StackedMix if _stacks_experts(x.device, len(x), weights.shape) else _DenseMix
    return mix_rows.apply(*autocast_inputs(x, gates, weights, bias))


def _stacks_experts(device: torch.device, rows: int, shape: torch.Size) -> bool:
    """Whether one product computes all experts of shape ``[E, F, N]`` for this number of rows."""
    return device.type != "cpu" and shape[0] <= _STACKED_EXPERTS and rows * shape.numel() <= _STACKED_PRODUCTS


class _Block(NamedTuple):
    """(row, expert) pairs of a block of rows.

    Attributes
    ----------
    part : slice
        Rows of the block.
    rows : Tensor
        Row of each pair, sorted by expert, int64 ``[P]``.
    slices : list of (int, slice)
        Each expert with pairs, and their positions in `rows`.
    active : Tensor
        Whether the row is routed to the expert, bool ``[E, b]``.
    positions, starts : Tensor
        Positions of the pairs in `rows`, sorted by row, int64 ``[P]``, and where each row begins in them, ``[b]``.
    gates : Tensor
        Gates of the pairs, sorted by row, ``[P]``.
    """

    part: slice
    rows: Tensor
    slices: list[tuple[int, slice]]
    active: Tensor
    positions: Tensor
    starts: Tensor
    gates: Tensor


def _blocks(gates: Tensor, widest: int) -> list[_Block]:
    count = gates.shape[0]
    # A GPU has no such caches, and each block costs a synchronisation for the sizes.
    size = max(_FEWEST_ROWS, _BLOCK_VALUES // widest) if gates.device.type == "cpu" else max(1, count)
    return [_block(gates, slice(start, min(start + size, count))) for start in range(0, count, size)]


def _block(gates: Tensor, part: slice) -> _Block:
    of_block = gates[part]
    by_row = of_block != 0
    active = by_row.t().contiguous()
    slices, end = [], 0
    for expert, pairs in enumerate(active.sum(dim=1).tolist()):
        if pairs:
            slices.append((expert, slice(end, end + pairs)))
        end += pairs
    order = (active.view(-1).cumsum(0) - 1).view(active.shape)
    per_row = by_row.sum(dim=1)
    return _Block(
        part,
        active.nonzero()[:, 1] + part.start,
        slices,
        active,
        order.t().masked_select(by_row),
        per_row.cumsum(0) - per_row,
        of_block.masked_select(by_row),
    )


class _DenseMix(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, gates: Tensor, weights: Tensor, bias: Tensor) -> Tensor:
        blocks = _blocks(gates, max(weights.shape[1:]))
        ctx.save_for_backward(x, gates, weights, bias)
        ctx.blocks = blocks
        width = weights.shape[2]
        parts = []
        for block in blocks:
            results = weights.new_empty(len(block.rows), width)
            for expert, pairs in block.slices:
                torch.mm(x.index_select(0, block.rows[pairs]), weights[expert], out=results[pairs])
            parts.append(_weighted_sums(results, block).addmm_(gates[block.part], bias))
        return _concatenated(parts, weights.new_empty(0, width))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        x, gates, weights, bias = ctx.saved_tensors
        needs_x, needs_gates, needs_weights, needs_bias = ctx.needs_input_grad
        of_x: list[Tensor] = []
        of_gates: list[Tensor] = []
        of_weights = torch.zeros_like(weights) if needs_weights else None
        for block in ctx.blocks:
            by_expert = gates[block.part].t().masked_select(block.active).unsqueeze(1)
            back = x.new_empty(len(block.rows), x.shape[1]) if needs_x or needs_gates else None
            for expert, pairs in block.slices:
                rows = block.rows[pairs]
                upstream = gradient.index_select(0, rows)
                if back is not None:
                    torch.mm(upstream, weights[expert].t(), out=back[pairs])
                if of_weights is not None:
                    inputs = x.index_select(0, rows)
                    # The narrower operand is scaled by the gates.
                    narrow = upstream if upstream.shape[1] < inputs.shape[1] else inputs
                    narrow.mul_(by_expert[pairs])
                    of_weights[expert].addmm_(inputs.t(), upstream)
            if back is None:
                continue
            if needs_gates:
                pulls = torch.linalg.vecdot(x.index_select(0, block.rows), back)
                inactive = torch.zeros_like(block.active, dtype=gates.dtype)
                pulled = inactive.masked_scatter(block.active, pulls) + bias @ gradient[block.part].t()
                of_gates.append(torch.where(block.active, pulled, inactive).t())
            if needs_x:
                of_x.append(_weighted_sums(back, block))
        return (
            _concatenated(of_x, torch.zeros_like(x)) if needs_x else None,
            _concatenated(of_gates, torch.zeros_like(gates)) if needs_gates else None,
            of_weights,
            gates.t() @ gradient if needs_bias else None,
        )


def _weighted_sums(results: Tensor, block: _Block) -> Tensor:
    """Return the sum of each row's results, weighted by its gates."""
    return embedding_bag(block.positions, results, block.starts, mode="sum", per_sample_weights=block.gates)


def _concatenated(parts: list[Tensor], empty: Tensor) -> Tensor:
    return torch.cat(parts) if len(parts) > 1 else parts[0] if parts else empty


class _StackedMix(torch.autograd.Function):
    """All experts in one product; results with a gate of zero are multiplied by zero and must be finite."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, gates: Tensor, weights: Tensor, bias: Tensor) -> Tensor:
        ctx.save_for_backward(x, gates, weights, bias)
        below = weights.flatten(0, 1)
        parts = [torch.addmm(g @ bias, _gated(rows, g), below) for rows, g in _in_chunks(x, gates)]
        return _concatenated(parts, weights.new_empty(0, weights.shape[2]))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        x, gates, weights, bias = ctx.saved_tensors
        needs_x, needs_gates, needs_weights, needs_bias = ctx.needs_input_grad
        below = weights.flatten(0, 1)
        of_x, of_gates, done = [], [], 0
        of_weights = torch.zeros_like(below) if needs_weights else None
        for rows, g in _in_chunks(x, gates):
            upstream = gradient[done : done + len(rows)]
            done += len(rows)
            if of_weights is not None:
                of_weights.addmm_(_gated(rows, g).t(), upstream)
            if needs_x or needs_gates:
                back = (upstream @ below.t()).unflatten(1, weights.shape[:2])
                if needs_x:
                    of_x.append(torch.bmm(g.unsqueeze(1), back).squeeze(1))
                if needs_gates:
                    pulls = torch.bmm(back, rows.unsqueeze(2)).squeeze(2) + upstream @ bias.t()
                    of_gates.append(torch.where(g != 0, pulls, torch.zeros_like(pulls)))
        return (
            _concatenated(of_x, torch.zeros_like(x)) if needs_x else None,
            _concatenated(of_gates, torch.zeros_like(gates)) if needs_gates else None,
            None if of_weights is None else of_weights.view_as(weights),
            gates.t() @ gradient if needs_bias else None,
        )


def _gated(rows: Tensor, gates: Tensor) -> Tensor:
    """Return the rows repeated for each expert and scaled by its gate, ``[B, E · F]``."""
    return (gates.unsqueeze(2) * rows.unsqueeze(1)).flatten(1)


def _in_chunks(x: Tensor, gates: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield chunks of rows and gates for which `_gated` stays small."""
    size = max(1, _STACKED_VALUES // max(1, gates.shape[1] * x.shape[1]))
    # `split` of no rows returns one empty chunk.
    yield from zip(x.split(size), gates.split(size), strict=True) if len(x) else ()


class _SparseMix(torch.autograd.Function):
    """All rows pass through every expert in use: selecting sparse rows costs more than the saved products."""

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

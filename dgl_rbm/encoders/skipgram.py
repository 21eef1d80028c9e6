"""Skip-gram with negative sampling on blocks of walks, computed as matrix products.

The objective is that of Mikolov et al., "Distributed Representations of Words and Phrases and their
Compositionality" (NIPS 2013), eq. 4, on walks in place of sentences (Perozzi et al., KDD 2014). word2vec takes
one pair of words after the other; here a whole block of walks takes one step, so that nearly all the work is
products of small matrices, on a CPU and on a GPU:

- word2vec samples the window size at each word, so a pair at distance d is used with probability
  (window − d + 1) / window; here this is its weight;
- word2vec thereby skips part of the pairs; here every third position of a walk is a context, a different third in each
  block, with three times the weight;
- word2vec samples `negative` noise nodes per pair; here the rows of a walk share noise nodes whose weights have the
  same sum.
"""

from __future__ import annotations

import torch
from torch import Tensor

from dgl_rbm.errors import DataError

__all__ = ["SkipGram"]

# Longer walks are cut into tiles, so that the products do not grow with the square of the walk's length.
_LONGEST_TILE = 64
_STRIDE = 3
_NOISE_PER_TILE = 20
_NOISE_POWER = 0.75
# word2vec takes the steps of a node sequentially; the sum of many steps from the same vector overshoots. The sum of n
# gradients is therefore divided by 1 + n / this, which leaves few gradients nearly unchanged and bounds the sum by this
# many mean steps.
_STEPS_A_BLOCK = 10.0
# Gradients are clipped to this length: vectors of hubs, and of nodes without co-occurrence, could otherwise diverge.
# At word2vec's learning rate a node moves by at most 2 per block.
_LONGEST_GRADIENT = 80.0
# Average occurrences of a node in a block, up to the limit below; smaller blocks gain nothing.
_MEETINGS_A_BLOCK = 4
# Sized to fit CPU caches and to saturate a GPU.
_MOST_TOKENS = {"cpu": 1 << 14, "cuda": 1 << 17}


class SkipGram:
    """Vectors of nodes and of their contexts, and the training step on a block of walks.

    Parameters
    ----------
    visits : Tensor
        Visits of each node by walks, up to a factor, ``[N]``; noise nodes are sampled in proportion to its power 3/4.
    dim : int
        D.
    walk_length : int
        L.
    window : int
        Maximum distance between two co-occurring nodes of a walk.
    negative : int
        Weight of the noise nodes per co-occurring pair.
    device : torch.device or str
        Device of the vectors.

    Attributes
    ----------
    vectors, contexts : Tensor
        float32 ``[N, D]``.
    block_size : int
        Recommended walks per block: few on a small graph, whose nodes would otherwise occur too often in one step.

    Raises
    ------
    DataError
        If no node is visited, so that no noise can be sampled.
    """

    def __init__(
        self,
        visits: Tensor,
        *,
        dim: int,
        walk_length: int,
        window: int,
        negative: int,
        device: torch.device | str = "cpu",
    ) -> None:
        device = torch.device(device)
        cumulated = visits.to(device, torch.float64).pow(_NOISE_POWER).cumsum(0)
        if not len(visits) or not float(cumulated[-1]) > 0:
            raise DataError("Skip-gram needs walks, but no node is visited.", hint="Does the graph have edges?")
        self._noise = cumulated / cumulated[-1]
        self.negative = negative
        # Sampled on the CPU, so that the initial values are the same on every device.
        self.vectors = ((torch.rand(len(visits), dim) - 0.5) / dim).to(device)
        self.contexts = torch.zeros(len(visits), dim, device=device)

        tiles = -(-walk_length // max(_LONGEST_TILE, 2 * window))
        self._tile, self._halo = walk_length, 0
        if tiles > 1:
            # Multiples of the stride, so that every tile has the same context positions.
            self._tile, self._halo = (_STRIDE * -(-size // _STRIDE) for size in (-(-walk_length // tiles), window))
        self._padding = (self._halo, tiles * self._tile - walk_length + self._halo)
        at = torch.arange(self._tile, device=device)
        around = torch.arange(-self._halo, self._tile + self._halo, device=device)
        distance = (at[:, None] - around).abs()
        self._band = (distance > 0) * _STRIDE * (window + 1 - distance).clamp(min=0) / window
        whole = torch.zeros(1, walk_length, dtype=torch.int64, device=device)
        # Weights of walks that do not end early; they differ in the context positions alone.
        self._whole = [self._weights(*self._cut(whole, offset), offset) for offset in range(_STRIDE)]

        tokens = min(_MEETINGS_A_BLOCK * len(visits), _MOST_TOKENS.get(device.type, _MOST_TOKENS["cuda"]))
        self.block_size = max(1, tokens // walk_length)

    def step(self, walks: Tensor, rate: float, turn: int) -> None:
        """Take one training step on a block of walks.

        Parameters
        ----------
        walks : Tensor
            Node ids on the vectors' device, int64 ``[B, L]``, −1 after the end of a walk.
        rate : float
            Learning rate.
        turn : int
            Index of the block, which selects the context positions. Noise comes from torch's generator of the device.
        """
        offset = turn % _STRIDE
        rows, columns = self._cut(walks, offset)
        draws = torch.rand(len(rows), _NOISE_PER_TILE, dtype=torch.float64, device=rows.device)
        # The first node whose cumulative probability exceeds the draw; never one of probability 0.
        noise = torch.searchsorted(self._noise, draws, right=True).clamp_(max=len(self._noise) - 1)
        weights, pulls = self._weights(rows, columns, offset) if bool(walks.min() < 0) else self._whole[offset]
        self._update(rows.flatten(), torch.cat([columns, noise], dim=1).flatten(), weights, pulls, rate)

    def _cut(self, walks: Tensor, offset: int) -> tuple[Tensor, Tensor]:
        """Return the rows ``[tiles, tile]`` and their contexts ``[tiles, columns]``; −1 outside of a walk."""
        padded = torch.nn.functional.pad(walks, self._padding, value=-1)
        around = padded.unfold(1, self._tile + 2 * self._halo, self._tile).flatten(0, 1)
        return around[:, self._halo : self._halo + self._tile], around[:, offset::_STRIDE]

    def _weights(self, rows: Tensor, columns: Tensor, offset: int) -> tuple[Tensor, Tensor]:
        """Return the weights of pairs and noise, and minus those of pairs, ``[tiles, tile, columns + noise]``."""
        pairs = self._band[:, offset::_STRIDE] * (rows >= 0)[:, :, None] * (columns >= 0)[:, None, :]
        share = self.negative / _NOISE_PER_TILE
        noise = (share * pairs.sum(dim=2, keepdim=True)).expand(-1, -1, _NOISE_PER_TILE)
        return torch.cat([pairs, noise], dim=2), torch.cat([-pairs, torch.zeros_like(noise)], dim=2)

    def _update(self, rows: Tensor, columns: Tensor, weights: Tensor, pulls: Tensor, rate: float) -> None:
        """Take one gradient step; `weights` and `pulls` are those of all tiles or of the tiles of one walk."""
        tile, width = weights.shape[1:]
        x = self.vectors.index_select(0, rows.clamp(min=0)).view(-1, tile, self.vectors.shape[1])
        y = self.contexts.index_select(0, columns.clamp(min=0)).view(-1, width, self.vectors.shape[1])
        # The derivative of the loss by the product of two vectors: σ(x·y) for noise, σ(x·y) − 1 for a pair.
        scores = torch.bmm(x, y.transpose(1, 2)).sigmoid_().view(-1, *weights.shape)
        slopes = torch.addcmul(pulls, scores, weights).view(-1, tile, width)
        of_x, of_y = torch.bmm(slopes, y), torch.bmm(slopes.transpose(1, 2), x)
        self._descend(self.vectors, rows, of_x.flatten(0, 1), rate)
        self._descend(self.contexts, columns, of_y.flatten(0, 1), rate)

    def _descend(self, table: Tensor, ids: Tensor, gradient: Tensor, rate: float) -> None:
        """Update every node in `ids` by its summed gradients, damped if they are many and clipped if they are long."""
        if len(table) <= len(ids):
            nodes, inverse = None, ids.clamp(min=0)
            met = torch.zeros(len(table), device=ids.device).index_add_(0, inverse, (ids >= 0).to(torch.float32))
        else:
            nodes, inverse, met = torch.unique(ids, return_inverse=True, return_counts=True)
        total = gradient.new_zeros(len(met), gradient.shape[1]).index_add_(0, inverse, gradient)
        held = 1 + met / _STEPS_A_BLOCK
        lengths = torch.linalg.vector_norm(total, dim=1).div_(held)
        steps = (_LONGEST_GRADIENT / lengths).clamp_(max=1).mul_(-rate).div_(held)[:, None]
        if nodes is None:
            table.addcmul_(total, steps)
        else:
            # Positions without a node have a zero gradient.
            table.index_add_(0, nodes.clamp_(min=0), total.mul_(steps))

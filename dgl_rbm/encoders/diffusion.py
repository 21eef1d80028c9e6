"""Diffused features: an encoding with the same formula for observed and unseen nodes.

Let M be the row-normalised adjacency matrix. The stored vectors z are a low-dimensional projection of
``M ** (steps - 1) @ X``, and a node's encoding is the mean of z over its neighbours: the projection of
``M ** steps @ X``, from one read per neighbour.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from dgl_rbm.data.neighbors import NeighborMean
from dgl_rbm.data.task import ObservedGraph
from dgl_rbm.encoders.base import Encoder, EncoderConfig, EncoderOutput, EncodingWeight, encoder_output
from dgl_rbm.registry import encoders
from dgl_rbm.rows.sparse import matmul, transpose_matmul
from dgl_rbm.runtime.context import RunContext

__all__ = ["DiffusionConfig", "DiffusionEncoder"]

_OVERSAMPLING = 10
_POWER_ITERATIONS = 4
_ROWS_AT_ONCE = 65_536
_RELATIVE_ROUNDING = 1e-6


class DiffusionEncoder(Encoder):
    """Low-dimensional features, averaged over neighbours in several steps.

    Parameters
    ----------
    dim : int
        Maximum number of columns; P is smaller if the projection is an SVD of features with fewer columns or rows.
    steps : int
        Averaging steps of the consistent encoding; the stored vectors take one step less.
    projection : {"svd", "random"}
        Truncated SVD of the averaged features, or a Gaussian random projection.
    consistent : bool
        See `EncoderConfig`.
    """

    kind = "diffusion"

    def __init__(
        self,
        *,
        dim: int = 64,
        steps: int = 1,
        projection: Literal["svd", "random"] = "svd",
        consistent: bool = True,
    ) -> None:
        self.dim, self.steps, self.projection, self.consistent = dim, steps, projection, consistent

    def fit(self, observed: ObservedGraph, context: RunContext) -> EncoderOutput:
        """Diffuse the observed features over the observed edges, without reading labels."""
        features = observed.features
        with context.stage("encoder", 2, unit="passes") as stage:
            mean = NeighborMean(observed.graph)

            # The averaged features are dense and are never materialised.
            def apply(columns: Tensor) -> Tensor:
                product = matmul(features, columns)
                for _ in range(self.steps - 1):
                    product = mean(product)
                return product

            def apply_transposed(rows: Tensor) -> Tensor:
                for _ in range(self.steps - 1):
                    rows = mean.transposed(rows)
                return transpose_matmul(features, rows)

            if self.projection == "svd":
                vectors = _principal_components(apply, apply_transposed, tuple(features.shape), self.dim, stage.substep)
            else:
                vectors = apply(torch.randn(features.shape[1], self.dim) / self.dim**0.5)
            stage.step(1)
            output = encoder_output(mean, vectors, consistent=self.consistent)
            stage.step(2)
        return output


def _principal_components(
    apply: Callable[[Tensor], Tensor],
    apply_transposed: Callable[[Tensor], Tensor],
    shape: tuple[int, ...],
    rank: int,
    report: Callable[[int, int], None] = lambda done, total: None,
) -> Tensor:
    """Return U·S of the truncated SVD of an implicit matrix.

    Randomised subspace iteration (Halko, Martinsson and Tropp, SIAM Review 2011, algorithms 4.4 and 5.1). The largest
    entry of every right singular vector is positive.

    Parameters
    ----------
    apply, apply_transposed : callable
        The products ``A @ x`` and ``A.T @ x``.
    shape : tuple of int
        Of A, ``[N, F]``.
    rank : int
        Number of columns.
    report : callable
        Called after every iteration with the number of iterations done and their total.

    Returns
    -------
    Tensor
        float32 ``[N, min(rank, N, F)]``, largest singular value first; zeros beyond the rank of A.
    """
    size = min(rank + _OVERSAMPLING, *shape)
    basis = _orthonormal(apply(torch.randn(shape[1], size)))
    if not basis.shape[1]:
        # The matrix is zero.
        return torch.zeros(shape[0], min(rank, size))
    report(1, _POWER_ITERATIONS + 1)
    for done in range(_POWER_ITERATIONS):
        cobasis, _ = torch.linalg.qr(apply_transposed(basis))
        basis = _orthonormal(apply(cobasis))
        report(done + 2, _POWER_ITERATIONS + 1)
    left, values, right = torch.linalg.svd(apply_transposed(basis).t(), full_matrices=False)
    found = min(rank, basis.shape[1])
    # Signs of singular vectors are arbitrary and would depend on rounding; make the largest entry positive.
    largest = right.gather(1, right.abs().argmax(dim=1, keepdim=True)).squeeze(1)
    projection = torch.zeros(basis.shape[1], min(rank, size))
    projection[:, :found] = (left * torch.where(largest < 0, -values, values))[:, :found]
    return basis @ projection


def _orthonormal(columns: Tensor) -> Tensor:
    """Return an orthonormal basis of the column space of a tall matrix ``[N, K]``, float32 ``[N, <= K]``.

    Computed from the eigenvectors of ``columns.T @ columns`` in double precision: two passes over the rows, whereas
    Householder reflections take K passes and several copies. Directions below the rounding error of single precision
    are dropped.
    """
    gram = torch.zeros(columns.shape[1], columns.shape[1], dtype=torch.float64)
    for rows in columns.split(_ROWS_AT_ONCE):
        wide = rows.double()
        gram += wide.t() @ wide
    values, vectors = torch.linalg.eigh(gram)
    kept = values > _RELATIVE_ROUNDING**2 * values[-1]
    transform = vectors[:, kept] / values[kept].sqrt()
    basis = torch.empty(len(columns), transform.shape[1])
    for into, rows in zip(basis.split(_ROWS_AT_ONCE), columns.split(_ROWS_AT_ONCE), strict=True):
        into.copy_(rows.double() @ transform)
    return basis


@encoders.register
class DiffusionConfig(EncoderConfig):
    """Low-dimensional features, averaged over neighbours in several steps."""

    kind: Literal["diffusion"] = "diffusion"
    weight: EncodingWeight = 0.3
    dim: int = Field(default=64, ge=1, description="Maximum number of columns of the encoding.")
    steps: int = Field(default=1, ge=1, description="Number of averaging steps over neighbours.")
    projection: Literal["svd", "random"] = Field(
        default="svd", description="Truncated SVD of the averaged features, or a cheaper random projection."
    )

    def build(self) -> DiffusionEncoder:
        """Build the encoder."""
        return DiffusionEncoder(**self.options())

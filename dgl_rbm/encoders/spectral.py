"""Spectral vectors: a factorised co-occurrence matrix, averaged over neighbours; a fast substitute for DeepWalk.

Skip-gram with negative sampling implicitly factorises the shifted pointwise mutual information (PMI) of nodes and
their contexts (Levy and Goldberg, NIPS 2014; for DeepWalk, Qiu et al., "Network Embedding as Matrix Factorization",
WSDM 2018). For a window of one step that matrix has an entry per edge, and a few sparse products factorise it.
Averaging the factors over neighbours adds longer-range co-occurrence. ProNE (Zhang et al., IJCAI 2019) also factorises
and then propagates, with another filter.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import numpy as np
import scipy.sparse as sp
import torch
from pydantic import Field
from torch import Tensor

from dgl_rbm.data.neighbors import NeighborMean
from dgl_rbm.data.task import ObservedGraph
from dgl_rbm.encoders.base import Encoder, EncoderConfig, EncoderOutput, EncodingWeight, encoder_output
from dgl_rbm.registry import encoders
from dgl_rbm.rows.sparse import SparseRows, matmul
from dgl_rbm.runtime.context import RunContext

__all__ = ["SpectralConfig", "SpectralEncoder", "orthonormal", "positive_pmi", "symmetric_factor"]

_OVERSAMPLING = 10
_POWER_ITERATIONS = 1
# Products with the matrix per factorisation: for the first basis, each iteration, and the last basis.
_PRODUCTS = 2 + _POWER_ITERATIONS
# Directions with an eigenvalue below this share of the largest are rounding errors.
_NEGLIGIBLE = 1e-5


class SpectralEncoder(Encoder):
    """Truncated eigendecomposition of the edges' PMI, averaged over neighbours `steps` times.

    Let S be the symmetric matrix of edge counts, d its row sums and v its sum. F has the entries
    ``max(0, log(v S_ij / (negative d_i d_j)))`` for pairs with an edge. From the ``P = min(dim, N)``
    eigenvalues Λ of F that are largest by magnitude and their eigenvectors U, the vectors are
    ``(D^-1 S)^steps U |Λ|^1/2``.
    Nodes without neighbours have zeros.

    Parameters
    ----------
    dim : int
        Maximum number of columns.
    steps : int
        Averaging steps over neighbours after the factorisation.
    negative : int
        Noise nodes per pair, as in DeepWalk; its logarithm is subtracted from the PMI.
    consistent : bool
        See `EncoderConfig`.
    """

    kind = "spectral"

    def __init__(self, *, dim: int = 64, steps: int = 10, negative: int = 1, consistent: bool = True) -> None:
        self.dim, self.steps, self.negative, self.consistent = dim, steps, negative, consistent

    def fit(self, observed: ObservedGraph, context: RunContext) -> EncoderOutput:
        """Factorise the observed edges on the run's device, without reading features or labels."""
        with context.stage("encoder", _PRODUCTS + self.steps, unit="products") as stage:
            mean = NeighborMean(observed.graph)
            counts = mean.neighbors.to_scipy()
            edges = sp.csr_matrix(counts + counts.T)
            degrees = np.asarray(edges.sum(axis=1)).ravel()
            done = 0

            def product(matrix: SparseRows, dense: Tensor) -> Tensor:
                nonlocal done
                result = matmul(matrix, dense)
                done += 1
                stage.step(done)
                return result

            pmi = SparseRows.from_scipy(positive_pmi(edges, self.negative)).to(context.device)
            vectors = symmetric_factor(lambda dense: product(pmi, dense), len(observed), self.dim, context.device)
            edges.data /= np.repeat(degrees, np.diff(edges.indptr))
            means = SparseRows.from_scipy(edges).to(context.device)
            for _ in range(self.steps):
                vectors = product(means, vectors)
            vectors = vectors.cpu() * torch.from_numpy(degrees > 0)[:, None]
            return encoder_output(mean, vectors, consistent=self.consistent)


def positive_pmi(edges: sp.csr_matrix, negative: int = 1) -> sp.csr_matrix:
    """Return the shifted positive PMI of pairs of nodes with an edge.

    Parameters
    ----------
    edges : csr_matrix
        Numbers of edges ``[N, N]``, symmetric.
    negative : int
        Its logarithm is subtracted from the PMI.

    Returns
    -------
    csr_matrix
        ``[N, N]``, symmetric.
    """
    degrees = np.asarray(edges.sum(axis=1), dtype=np.float64).ravel()
    ends = np.repeat(degrees, np.diff(edges.indptr)) * degrees[edges.indices]
    values = np.log(edges.data * degrees.sum() / (negative * ends)).clip(min=0).astype(np.float32)
    pmi = sp.csr_matrix((values, edges.indices, edges.indptr), shape=edges.shape, copy=True)
    pmi.eliminate_zeros()
    return pmi


def symmetric_factor(
    apply: Callable[[Tensor], Tensor], size: int, rank: int, device: torch.device | str = "cpu"
) -> Tensor:
    """Return ``U |Λ|^1/2`` of a symmetric matrix, for its largest eigenvalues Λ by magnitude.

    Randomised subspace iteration and the Rayleigh-Ritz method (Halko, Martinsson and Tropp, SIAM Review 2011,
    algorithms 4.4 and 5.3); exact up to rounding if ``rank + 10 >= size``.

    Parameters
    ----------
    apply : callable
        The product ``F @ x``.
    size : int
        N, of the matrix ``[N, N]``.
    rank : int
        Number of columns.
    device : torch.device or str
        Device of the argument of `apply`.

    Returns
    -------
    Tensor
        float32 ``[N, min(rank, N)]``, largest eigenvalue by magnitude first.
    """
    basis = torch.randn(size, min(rank + _OVERSAMPLING, size)).to(device)
    for _ in range(1 + _POWER_ITERATIONS):
        basis = orthonormal(apply(basis))
    values, inner = torch.linalg.eigh((basis.t() @ apply(basis)).to(torch.float64))
    largest = values.abs().argsort(descending=True, stable=True)[: min(rank, size)]
    values = values[largest].abs()
    roots = torch.where(values > _NEGLIGIBLE * values[:1], values, 0.0).sqrt()
    return basis @ (inner[:, largest] * roots).to(torch.float32)


def orthonormal(columns: Tensor) -> Tensor:
    """Return an orthonormal basis of a space that contains these columns, float32 ``[N, K]``, N ≥ K.

    Two steps of Cholesky QR (Yamamoto et al., ETNA 44, 2015), which consists of matrix products; Householder QR if the
    columns are too close to linearly dependent.
    """
    basis = columns
    for _ in range(2):
        lower, failed = torch.linalg.cholesky_ex((basis.t() @ basis).to(torch.float64))
        diagonal = lower.diagonal()
        if int(failed) or not float(diagonal.min()) > 1e-3 * float(diagonal.max()):
            return torch.linalg.qr(columns)[0]
        identity = torch.eye(len(lower), dtype=lower.dtype, device=lower.device)
        inverse = torch.linalg.solve_triangular(lower, identity, upper=False)
        basis = basis @ inverse.t().to(basis.dtype)
    return basis


@encoders.register
class SpectralConfig(EncoderConfig):
    """Factors of the edges' mutual information, averaged over neighbours."""

    kind: Literal["spectral"] = "spectral"
    weight: EncodingWeight = 0.3
    dim: int = Field(default=64, ge=1, description="Maximum number of columns of the encoding.")
    steps: int = Field(default=10, ge=0, description="Averaging steps over neighbours after the factorisation.")
    negative: int = Field(default=1, ge=1, description="Noise nodes per edge; more noise keeps fewer edges.")

    def build(self) -> SpectralEncoder:
        """Build the encoder."""
        return SpectralEncoder(**self.options())

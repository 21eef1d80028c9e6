"""Break-even density of sparse and dense first layers, which `SPARSE_BELOW_DENSITY` is based on.

For each number of columns and each share of non-zeros, the same random rows are multiplied once as a dense tensor and
once as `SparseRows`: forward and backward of `dgl_rbm.rows.sparse.linear`, as in one training step of a student's first
layer. The two are timed in turn, so that fluctuations of the machine's load affect both alike; only the ratio is
reliable. With ``--batch``, each step first selects that many random rows, as in mini-batches; a selection of sparse
rows must be transposed again. Run

    OMP_NUM_THREADS=1 python benchmarks/sparse_threshold.py
    OMP_NUM_THREADS=1 python benchmarks/sparse_threshold.py --batch 1024
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from statistics import median

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor

from dgl_rbm.rows.sparse import SPARSE_BELOW_DENSITY, Rows, SparseRows, linear, take

DENSITIES = (0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.10, 0.15, 0.20, 0.30, 0.40)
COLUMNS = (1433, 6805)


def random_rows(count: int, columns: int, density: float, seed: int) -> sp.csr_matrix:
    """Return random rows with about this share of non-zeros at random positions."""
    return sp.random(count, columns, density=density, format="csr", dtype=np.float32, random_state=seed)


def step_seconds(rows: Rows, weight: Tensor, batch: int | None) -> float:
    """Return the seconds of one forward and backward pass over all rows, or over `batch` random ones."""
    weight.grad = None
    index = None if batch is None else torch.randperm(len(rows))[:batch]
    start = time.perf_counter()
    linear(rows if index is None else take(rows, index), weight).sum().backward()
    return time.perf_counter() - start


def dense_over_sparse(matrix: sp.csr_matrix, width: int, repeats: int, batch: int | None) -> tuple[float, float, float]:
    """Return the median seconds of a dense and a sparse step, and the median of the pairwise ratio."""
    sparse = SparseRows.from_scipy(matrix)
    dense = sparse.to_dense()
    weight = torch.randn(width, matrix.shape[1], requires_grad=True)
    # Warm-up; the full set of sparse rows caches its transpose, as in training.
    step_seconds(dense, weight, batch)
    step_seconds(sparse, weight, batch)
    pairs = [(step_seconds(dense, weight, batch), step_seconds(sparse, weight, batch)) for _ in range(repeats)]
    of_dense, of_sparse = zip(*pairs, strict=True)
    return median(of_dense), median(of_sparse), median(a / b for a, b in pairs)


def break_even(densities: Sequence[float], ratios: Sequence[float]) -> float | None:
    """Return the density at which the ratio falls to 1, interpolated on logarithms; None if it does not."""
    for i in range(1, len(ratios)):
        if ratios[i - 1] >= 1 > ratios[i]:
            share = np.log(ratios[i - 1]) / (np.log(ratios[i - 1]) - np.log(ratios[i]))
            return float(np.exp(np.log(densities[i - 1]) * (1 - share) + np.log(densities[i]) * share))
    return None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--rows", type=int, default=2708, help="rows of the matrix")
    parser.add_argument("--width", type=int, default=128, help="columns of the layer's output")
    parser.add_argument("--repeats", type=int, default=15, help="timed pairs of steps")
    parser.add_argument("--batch", type=int, help="rows per step; all rows by default")
    parser.add_argument("--columns", type=int, nargs="+", default=COLUMNS, help="numbers of columns")
    parser.add_argument("--densities", type=float, nargs="+", default=DENSITIES, help="shares of non-zeros")
    options = parser.parse_args()
    steps = "full batches" if options.batch is None else f"batches of {options.batch}"
    print(f"torch {torch.__version__}, {torch.get_num_threads()} thread(s), {options.rows} rows, {steps}")
    for columns in options.columns:
        print(f"\nF = {columns}\n| non-zeros | dense, ms | sparse, ms | dense / sparse |\n|---|---|---|---|")
        ratios = []
        for density in options.densities:
            matrix = random_rows(options.rows, columns, density, seed=0)
            dense, sparse, ratio = dense_over_sparse(matrix, options.width, options.repeats, options.batch)
            ratios.append(ratio)
            print(f"| {density:.1%} | {1e3 * dense:.1f} | {1e3 * sparse:.1f} | {ratio:.2f} |", flush=True)
        even = break_even(options.densities, ratios)
        shown = "outside this range" if even is None else f"{even:.3f}"
        print(f"Break-even: {shown}; the threshold in use is {SPARSE_BELOW_DENSITY}.")


if __name__ == "__main__":
    main()

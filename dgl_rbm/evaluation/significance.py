"""Comparison of methods over several graphs: min-max scores, and the Skillings-Mack test for missing results."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import chi2, rankdata

from dgl_rbm.errors import DataError
from dgl_rbm.rows.checked import as_array

__all__ = ["SkillingsMack", "median_scores", "min_max_scores", "skillings_mack"]

_DRAWS_AT_ONCE = 1000


def min_max_scores(accuracies: Mapping[str, float]) -> dict[str, float]:
    """Return each method's Score on one graph and setting: 0 for the worst mean accuracy, 1 for the best.

    The Score of the RbM paper (section 5.1). If all accuracies are equal, every method has a Score of 1.
    """
    if not accuracies:
        return {}
    low, high = min(accuracies.values()), max(accuracies.values())
    return {name: (value - low) / (high - low) if high > low else 1.0 for name, value in accuracies.items()}


def median_scores(accuracies: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    """Return each method's median Score over the graphs on which it has a result.

    Parameters
    ----------
    accuracies : mapping of str to mapping of str to float
        Graph to method to mean accuracy; methods may be missing on some graphs.
    """
    scores: dict[str, list[float]] = {}
    for of_graph in accuracies.values():
        for name, score in min_max_scores(of_graph).items():
            scores.setdefault(name, []).append(score)
    return {name: float(np.median(values)) for name, values in scores.items()}


@dataclass(frozen=True)
class SkillingsMack:
    """Result of the Skillings-Mack test.

    Attributes
    ----------
    statistic : float
        T; 0 if no treatments can be compared.
    df : int
        Degrees of freedom: the number of treatments minus the number of connected components of the graph that links
        treatments observed in the same block.
    p_value : float
        Upper tail of the chi-squared distribution; 1 if no treatments can be compared.
    simulated_p_value : float or None
        Share of random permutations within the blocks whose statistic is at least as large; None without simulations.
    blocks : int
        Number of blocks with at least two observations.
    """

    statistic: float
    df: int
    p_value: float
    simulated_p_value: float | None = None
    blocks: int = 0


def skillings_mack(values: ArrayLike, *, simulations: int = 0, seed: int = 0) -> SkillingsMack:
    """Test whether treatments differ, given blocks in which some treatments may be missing.

    Skillings and Mack 1981, "On the use of a Friedman-type statistic in balanced and unbalanced block designs",
    Technometrics 23(2). Observations are ranked within each block; a missing one gets the block's mean rank. With k_i
    observations in block i,

    .. math:: A_j = \\sum_i \\sqrt{12 / (k_i + 1)} \\, (R_{ij} - (k_i + 1) / 2), \\qquad T = A^\\top \\Sigma^- A,

    with the negative number of blocks that contain both treatments as their covariance, and rows of Σ that sum to 0.
    Without missing values and ties this is Friedman's statistic.

    Parameters
    ----------
    values : array_like
        Float ``[blocks, treatments]``, NaN for missing observations. Ties within a block share their mean rank. Blocks
        with fewer than two observations are dropped.
    simulations : int
        Number of random permutations for a simulated p-value, which is more accurate for few blocks or many ties.
    seed : int
        Seed of the permutations.

    Raises
    ------
    DataError
        If `values` is not two-dimensional or contains infinities.
    """
    try:
        table = as_array(values, "values").astype(np.float64, casting="same_kind")
    except (TypeError, ValueError):
        table = np.empty(0)
    if table.ndim != 2 or np.isinf(table).any():
        raise DataError("skillings_mack expects a table of numbers, blocks × treatments, with NaN for missing ones.")
    table = table[(~np.isnan(table)).sum(axis=1) >= 2]
    present = ~np.isnan(table)
    together = present.T.astype(np.float64) @ present
    covariance = -together
    np.fill_diagonal(covariance, together.sum(axis=1) - np.diag(together))
    df = int(np.linalg.matrix_rank(covariance)) if covariance.size else 0
    if df == 0:
        return SkillingsMack(0.0, 0, 1.0, 1.0 if simulations else None, len(table))
    # Σ is singular: its rows sum to 0.
    inverse = np.linalg.pinv(covariance, hermitian=True)
    ranks = np.stack([_ranks(row) for row in table])
    counts = present.sum(axis=1, keepdims=True)
    weighted = np.sqrt(12 / (counts + 1)) * (ranks - (counts + 1) / 2)

    def statistic(adjusted: np.ndarray) -> np.ndarray:
        return np.einsum("...i,ij,...j->...", adjusted, inverse, adjusted)

    observed = float(statistic(weighted.sum(axis=0)))
    simulated = None
    if simulations:
        generator = np.random.default_rng(seed)
        as_large = 0
        for start in range(0, simulations, _DRAWS_AT_ONCE):
            sums = np.zeros((min(_DRAWS_AT_ONCE, simulations - start), table.shape[1]))
            for row, known in zip(weighted, present, strict=True):
                order = generator.random((len(sums), int(known.sum()))).argsort(axis=1)
                sums[:, known] += row[known][order]
            # Statistics that are equal up to rounding count as equal.
            as_large += int((statistic(sums) >= observed * (1 - 1e-9)).sum())
        # The observed order is one of the permutations.
        simulated = (1 + as_large) / (1 + simulations)
    return SkillingsMack(observed, df, float(chi2.sf(observed, df)), simulated, len(table))


def _ranks(row: np.ndarray) -> np.ndarray:
    """Return ranks from 1; ties share their mean rank, missing values get the mean of all ranks."""
    known = ~np.isnan(row)
    ranks = np.full(row.shape, (known.sum() + 1) / 2)
    ranks[known] = rankdata(row[known])
    return ranks

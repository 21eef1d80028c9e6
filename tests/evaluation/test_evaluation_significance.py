"""Score and Skillings-Mack test against cases by hand, the literature, Friedman's test, and a slow reference."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chi2, friedmanchisquare

from dgl_rbm.errors import DataError
from dgl_rbm.evaluation.significance import median_scores, min_max_scores, skillings_mack

NAN = math.nan

# Skillings and Mack 1981, table 1: assembly times of four methods (columns) in nine blocks.
ASSEMBLY = [
    [3.2, 4.1, 3.8, 4.2],
    [3.1, 3.9, 3.4, 4.0],
    [4.3, 3.5, 4.6, 4.8],
    [3.5, 3.6, 3.9, 4.0],
    [3.6, 4.2, 3.7, 3.9],
    [4.5, 4.7, 3.7, NAN],
    [NAN, 4.2, 3.4, NAN],
    [4.3, 4.6, 4.4, 4.9],
    [3.5, NAN, 3.7, 3.9],
]


def slow(table: list[list[float]]) -> float:
    """Compute the statistic step by step, with the published covariance that omits the last row and column."""
    blocks = [row for row in table if sum(not math.isnan(value) for value in row) >= 2]
    treatments = range(len(table[0]))
    adjusted = [0.0 for _ in treatments]
    for row in blocks:
        known = [value for value in row if not math.isnan(value)]
        k = len(known)
        for j in treatments:
            if math.isnan(row[j]):
                rank = (k + 1) / 2
            else:
                rank = sum(other < row[j] for other in known) + (sum(other == row[j] for other in known) + 1) / 2
            adjusted[j] += math.sqrt(12 / (k + 1)) * (rank - (k + 1) / 2)
    covariance = np.zeros((len(table[0]), len(table[0])))
    for a, b in itertools.permutations(treatments, 2):
        both = sum(not math.isnan(row[a]) and not math.isnan(row[b]) for row in blocks)
        covariance[a, b] -= both
        covariance[a, a] += both
    first = np.array(adjusted[:-1])
    return float(first @ np.linalg.solve(covariance[:-1, :-1], first))


def test_the_example_of_skillings_and_mack() -> None:
    result = skillings_mack(ASSEMBLY)
    # The paper prints 15.49; R's Skillings.Mack, on the same data, 15.493049 and p = 0.001440296302.
    assert result.statistic == pytest.approx(15.493049, abs=5e-7)
    assert (result.df, result.blocks) == (3, 9)
    assert result.p_value == pytest.approx(0.001440296302, abs=5e-13)
    assert slow(ASSEMBLY) == pytest.approx(result.statistic)


def test_a_case_by_hand() -> None:
    # Two treatments, three blocks, always the same order: A = ±3·√4·½ = ±3, Σ = [[3, -3], [-3, 3]], T = 9 / 3.
    result = skillings_mack([[1, 2], [5, 7], [0, 9]])
    assert result.statistic == pytest.approx(3)
    assert (result.df, result.p_value) == (1, pytest.approx(chi2.sf(3, 1)))


# Few distinct values, for ties; NaN for missing observations.
VALUES = st.one_of(st.integers(0, 6).map(float), st.just(NAN))


@st.composite
def tables(draw: Any, values: st.SearchStrategy[float] = VALUES) -> list[list[float]]:
    treatments = draw(st.integers(2, 5))
    rows = draw(st.lists(st.lists(values, min_size=treatments, max_size=treatments), min_size=1, max_size=7))
    # The reference needs connected treatments; a complete block connects them.
    return [*rows, draw(st.permutations([float(i) for i in range(treatments)]))]


@given(tables())
def test_equals_the_slow_statistic(table: list[list[float]]) -> None:
    result = skillings_mack(table)
    assert result.statistic == pytest.approx(slow(table), abs=1e-9)
    assert result.df == len(table[0]) - 1


@given(tables(), st.randoms(use_true_random=False))
def test_invariant_to_block_order_and_monotone_scaling(table: list[list[float]], random: Any) -> None:
    scaled = []
    for row in table:
        shift, power = random.uniform(-5, 5), random.choice([1, 3, 5])
        scaled.append([(value + 1) ** power + shift for value in row])
    random.shuffle(scaled)
    assert skillings_mack(scaled).statistic == pytest.approx(skillings_mack(table).statistic, abs=1e-9)


@given(tables(), st.randoms(use_true_random=False))
def test_invariant_to_treatment_order(table: list[list[float]], random: Any) -> None:
    order = list(range(len(table[0])))
    random.shuffle(order)
    shuffled = [[row[j] for j in order] for row in table]
    assert skillings_mack(shuffled).statistic == pytest.approx(skillings_mack(table).statistic, abs=1e-9)


@given(st.integers(3, 6), st.integers(2, 8), st.integers(0, 2**31 - 1))
def test_equals_friedmans_test_without_missing_values(treatments: int, blocks: int, seed: int) -> None:
    table = np.random.default_rng(seed).random((blocks, treatments))
    friedman = friedmanchisquare(*table.T)
    result = skillings_mack(table)
    assert result.statistic == pytest.approx(friedman.statistic)
    assert result.p_value == pytest.approx(friedman.pvalue)


def test_simulated_p_value_against_all_permutations() -> None:
    table = [[1.0, 2.0, 3.0], [1.0, 2.0, NAN], [1.0, 2.0, 2.0]]
    observed = skillings_mack(table).statistic
    counts = []
    for a, b, c in itertools.product(
        itertools.permutations(table[0]), itertools.permutations(table[1][:2]), itertools.permutations(table[2])
    ):
        counts.append(slow([list(a), [*b, NAN], list(c)]) >= observed - 1e-9)
    exact = sum(counts) / len(counts)
    result = skillings_mack(table, simulations=20_000, seed=3)
    # Four standard errors of a share estimated from 20,000 permutations.
    assert result.simulated_p_value == pytest.approx(exact, abs=4 * math.sqrt(exact * (1 - exact) / 20_000))
    assert skillings_mack(table, simulations=500, seed=1) == skillings_mack(table, simulations=500, seed=1)


def test_tables_without_comparable_treatments() -> None:
    for table in ([[1.0, NAN], [NAN, 2.0]], [[NAN, NAN]], np.empty((0, 3)), [[1.0], [2.0]]):
        result = skillings_mack(table, simulations=10)
        assert (result.statistic, result.df, result.p_value, result.simulated_p_value) == (0.0, 0, 1.0, 1.0)


def test_each_connected_component_takes_one_degree_of_freedom() -> None:
    with_empty = [[*row, NAN] for row in ASSEMBLY]
    assert skillings_mack(with_empty).statistic == pytest.approx(skillings_mack(ASSEMBLY).statistic)
    assert skillings_mack(with_empty).df == 3
    apart = [[1.0, 2.0, NAN, NAN], [NAN, NAN, 3.0, 1.0]]
    result = skillings_mack(apart)
    assert (result.df, result.statistic) == (2, pytest.approx(2.0))


@pytest.mark.parametrize("values", [[1.0, 2.0], [[1.0, math.inf]]])
def test_invalid_tables_are_refused(values: Any) -> None:
    with pytest.raises(DataError, match="blocks × treatments"):
        skillings_mack(values)


def test_scores_by_hand() -> None:
    assert min_max_scores({"a": 80.0, "b": 85.0, "c": 90.0}) == {"a": 0.0, "b": 0.5, "c": 1.0}
    assert min_max_scores({"a": 0.7, "b": 0.7}) == {"a": 1.0, "b": 1.0}
    assert min_max_scores({"a": 0.7}) == {"a": 1.0}
    assert min_max_scores({}) == {}
    accuracies = {
        "cora": {"a": 80.0, "b": 85.0, "c": 90.0},
        "photo": {"a": 70.0, "b": 60.0},
        "cs": {"a": 50.0, "b": 50.0, "c": 100.0},
    }
    # a: 0, 1, 0; b: 0.5, 0, 0; c: 1, 1.
    assert median_scores(accuracies) == {"a": 0.0, "b": 0.0, "c": 1.0}


def test_scores_of_the_papers_table_2() -> None:
    """Students on ogbn-arxiv, by teacher; the paper prints the medians 0.0, 0.9072, 0.7397 and 1.0."""
    table = {
        "sage": {"glnn": 64.68, "krd": 71.64, "nosmog": 70.45, "rbm": 72.48},
        "drgat": {"glnn": 63.51, "krd": 72.21, "nosmog": 70.71, "rbm": 73.10},
        "revgnn": {"glnn": 63.72, "krd": 72.44, "nosmog": 70.75, "rbm": 73.26},
    }
    scores = median_scores(table)
    printed = {"glnn": 0.0, "krd": 0.9072, "nosmog": 0.7397, "rbm": 1.0}
    # The paper computed its Scores from accuracies with more digits than it prints.
    assert scores == pytest.approx(printed, abs=0.003)


@pytest.mark.parametrize("values", [3, "ab", [["a"]], [[1j]], [[1], [1, 2]], [1.0], {"a": 1}])
def test_what_is_no_table_is_refused(values):
    with pytest.raises(DataError):
        skillings_mack(values)

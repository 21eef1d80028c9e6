"""Feature normalisation against plain loops, dense and sparse."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from hypothesis import given
from hypothesis import strategies as st

from dgl_rbm.errors import ArtifactError, DataError
from dgl_rbm.rows.normalization import FeatureNormalization
from dgl_rbm.rows.sparse import SparseRows

matrices = st.integers(1, 6).flatmap(
    lambda width: st.lists(
        st.lists(st.sampled_from([0.0, 0.0, 1.0, -2.0, 0.5, 7.25]), min_size=width, max_size=width),
        min_size=1,
        max_size=8,
    )
)


@given(matrices)
def test_row_divides_by_the_sum_of_absolute_values(values):
    expected = []
    for row in values:
        total = sum(abs(value) for value in row)
        expected.append([value / total if total else 0.0 for value in row])
    normalization = FeatureNormalization.fit("row", torch.tensor(values))
    dense = normalization.apply(torch.tensor(values))
    sparse = normalization.apply(sp.csr_matrix(values))
    assert isinstance(sparse, SparseRows)
    torch.testing.assert_close(dense, torch.tensor(expected))
    torch.testing.assert_close(sparse.to_dense(), torch.tensor(expected))


@given(matrices)
def test_standard_shifts_and_scales_columns(values):
    columns = []
    for column in zip(*values, strict=True):
        mean = sum(column) / len(column)
        deviation = (sum((value - mean) ** 2 for value in column) / len(column)) ** 0.5
        columns.append([(value - mean) / (deviation if len(set(column)) > 1 else 1.0) for value in column])
    expected = torch.tensor(columns).t()
    for features in (torch.tensor(values), SparseRows.from_scipy(sp.csr_matrix(values))):
        result = FeatureNormalization.fit("standard", features).apply(features)
        assert isinstance(result, torch.Tensor)
        torch.testing.assert_close(result, expected, atol=1e-5, rtol=1e-5)


def test_constant_columns_are_only_shifted():
    features = torch.tensor([[0.1, 3e7], [0.1, 3e7], [0.1, 3e7]])
    normalization = FeatureNormalization.fit("standard", features)
    assert normalization.std.tolist() == [1.0, 1.0]
    assert normalization.apply(features).tolist() == [[0.0, 0.0]] * 3
    shifted = normalization.apply(torch.tensor([[1.1, 3e7]]))
    torch.testing.assert_close(shifted, torch.tensor([[1.0, 0.0]]))


@pytest.mark.parametrize("kind", ["none", "row", "standard"])
def test_state_round_trip_and_unchanged_inputs(kind):
    features = torch.rand(7, 3, generator=torch.Generator().manual_seed(0)) + 1
    kept, matrix = features.clone(), sp.csr_matrix(features.numpy())
    normalization = FeatureNormalization.fit(kind, features)
    restored = FeatureNormalization.from_state(normalization.state_dict())
    assert restored.kind == kind
    assert restored.apply(features).equal(normalization.apply(features))
    rows = SparseRows.from_scipy(matrix)
    normalization.apply(rows)
    assert features.equal(kept)
    assert rows.to_dense().equal(kept)


def test_none_keeps_the_layout_and_accepts_integers():
    normalization = FeatureNormalization("none")
    assert isinstance(normalization.apply(sp.csr_matrix(np.eye(3))), SparseRows)
    assert normalization.apply(np.array([[1, 2]])).dtype == torch.float32


def test_one_row_and_no_rows():
    normalization = FeatureNormalization.fit("standard", torch.tensor([[1.0, 2.0], [3.0, 2.0]]))
    assert normalization.apply(torch.tensor([[3.0, 2.0]])).tolist() == [[1.0, 0.0]]
    assert normalization.apply(torch.zeros(0, 2)).shape == (0, 2)
    assert FeatureNormalization("row").apply(torch.zeros(0, 2)).shape == (0, 2)
    with pytest.raises(DataError, match="without rows"):
        FeatureNormalization.fit("standard", torch.zeros(0, 2))


@given(matrices, st.sampled_from(["none", "row", "standard"]), st.sampled_from([1e-3, 1.0]))
def test_short_rows_are_rescaled_by_one_factor(values, kind, shrink):
    features = shrink * torch.tensor(values)
    plain = FeatureNormalization.fit(kind, features).apply(features)
    length = (sum(value**2 for row in plain.tolist() for value in row) / len(values)) ** 0.5
    expected = plain / length if 0 < length < 0.5 else plain
    rescaled = FeatureNormalization.fit(kind, features).rescaled(torch.linalg.vector_norm(plain, dim=1))
    torch.testing.assert_close(rescaled.apply(features), expected, atol=1e-5, rtol=1e-4)
    again = FeatureNormalization.from_state(rescaled.state_dict())
    for rows in (features, SparseRows.from_scipy(sp.csr_matrix(features.numpy()))):
        result = again.apply(rows)
        dense = result if isinstance(result, torch.Tensor) else result.to_dense()
        torch.testing.assert_close(dense, rescaled.apply(features), atol=1e-6, rtol=1e-5)


def test_another_number_of_columns():
    normalization = FeatureNormalization.fit("standard", torch.rand(4, 7))
    with pytest.raises(DataError, match="5 columns; the normalisation was fitted on 7"):
        normalization.apply(torch.rand(2, 5))


@pytest.mark.parametrize("state", [{}, {"kind": "zscore"}, {"kind": "standard"}])
def test_a_damaged_state_is_refused(state):
    with pytest.raises(ArtifactError, match="cannot be restored"):
        FeatureNormalization.from_state(state)


def test_importing_it_imports_no_dgl():
    code = "import sys, dgl_rbm.rows.normalization; sys.exit('dgl' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0

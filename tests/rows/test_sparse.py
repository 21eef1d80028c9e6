"""Sparse rows against dense ones."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from dgl_rbm.errors import DataError
from dgl_rbm.rows import sparse
from dgl_rbm.rows.convert import as_rows
from dgl_rbm.rows.sparse import SparseRows
from dgl_rbm.rows.stacked import hstack

matrices = hnp.arrays(
    np.float32,
    st.tuples(st.integers(0, 6), st.integers(1, 5)),
    elements=st.sampled_from([0.0, 0.0, 0.0, 1.0, -2.5, 3.0]),
)


@given(matrices, st.data())
def test_products_and_rows_equal_the_dense_ones(values: np.ndarray, data: st.DataObject) -> None:
    rows, dense = SparseRows.from_scipy(sp.csr_matrix(values)), torch.from_numpy(values)
    count, columns = values.shape
    torch.testing.assert_close(rows.to_dense(), dense)
    torch.testing.assert_close(sparse.norms(rows), dense.norm(dim=1))
    weight = torch.arange(columns * 3, dtype=torch.float32).reshape(columns, 3)
    torch.testing.assert_close(sparse.matmul(rows, weight), dense @ weight)
    left = torch.arange(count * 2, dtype=torch.float32).reshape(count, 2)
    torch.testing.assert_close(sparse.transpose_matmul(rows, left), dense.T @ left)
    if count:
        index = torch.tensor(data.draw(st.lists(st.integers(0, count - 1), max_size=8)), dtype=torch.int64)
        torch.testing.assert_close(rows.take(index).to_dense(), dense[index])
    chosen = torch.tensor(sorted(data.draw(st.sets(st.integers(0, columns - 1)))), dtype=torch.int64)
    torch.testing.assert_close(rows.columns(chosen).to_dense(), dense[:, chosen])
    extra = torch.ones(count, 2)
    torch.testing.assert_close(hstack(rows, extra).to_dense(), torch.cat([dense, extra], 1))


@given(matrices)
def test_gradients_equal_the_dense_ones(values: np.ndarray) -> None:
    rows, dense = SparseRows.from_scipy(sp.csr_matrix(values)), torch.from_numpy(values)
    gradients = []
    for form in (rows, dense):
        weight = torch.linspace(-1, 1, 2 * values.shape[1]).reshape(2, -1).requires_grad_()
        bias = torch.zeros(2, requires_grad=True)
        (sparse.linear(form, weight, bias) ** 2).sum().backward()
        gradients.append((weight.grad, bias.grad))
    for ours, reference in zip(*gradients, strict=True):
        torch.testing.assert_close(ours, reference)


@given(matrices, st.integers(0, 100))
def test_dropped_rows_equal_dense_ones_with_the_same_entries_dropped(values: np.ndarray, seed: int) -> None:
    rows = SparseRows.from_scipy(sp.csr_matrix(values))
    torch.manual_seed(seed)
    kept = torch.nn.functional.dropout(torch.ones(int((values != 0).sum())), 0.4).tolist()
    expected = torch.from_numpy(values).clone()
    for i in range(values.shape[0]):
        for j in range(values.shape[1]):
            if values[i, j]:
                expected[i, j] *= kept.pop(0)
    torch.manual_seed(seed)
    dropped = sparse.dropout(rows, 0.4)
    assert isinstance(dropped, SparseRows)
    torch.testing.assert_close(dropped.to_dense(), expected)
    torch.testing.assert_close(dropped.transposed().to_dense(), expected.t())
    # The pattern's transposition, now cached, and a dropout of dropped rows.
    again = dropped.dropout(0.4)
    torch.testing.assert_close(again.transposed().to_dense(), again.to_dense().t())
    torch.testing.assert_close(rows.to_dense(), torch.from_numpy(values))
    torch.testing.assert_close(rows.transposed().to_dense(), torch.from_numpy(values).t())


def test_dropout_keeps_the_expected_product() -> None:
    torch.manual_seed(0)
    rows, weight = SparseRows.from_scipy(sp.eye(40, format="csr")), torch.ones(40, 1)
    mean = torch.stack([sparse.matmul(rows.dropout(0.3), weight) for _ in range(400)]).mean()
    assert float(mean) == pytest.approx(1, abs=0.02)


@pytest.mark.parametrize(
    "values",
    [
        np.eye(3),
        np.eye(3, dtype=np.int64),
        np.eye(3, dtype=bool),
        np.eye(3, dtype=np.uint16),
        np.broadcast_to(np.eye(3), (3, 3)),
        sp.csr_matrix(np.eye(3)),
        sp.coo_matrix(np.eye(3)),
        torch.eye(3, dtype=torch.float64),
        torch.eye(3).to_sparse(),
        SparseRows.from_scipy(sp.eye(3)).csr,
        [[1, 0, 0], [0, 1, 0], [0, 0, 1]],
    ],
    ids=lambda values: type(values).__name__,
)
def test_any_matrix_becomes_float32_rows(values: object) -> None:
    rows = as_rows(values)
    dense = rows.to_dense() if isinstance(rows, SparseRows) else rows
    assert dense.dtype == torch.float32
    torch.testing.assert_close(dense, torch.eye(3))


def test_duplicate_entries_are_summed() -> None:
    matrix = sp.coo_matrix(([1.0, 2.0], ([0, 0], [1, 1])), shape=(1, 2))
    torch.testing.assert_close(as_rows(matrix).to_dense(), torch.tensor([[0.0, 3.0]]))


@pytest.mark.parametrize(
    ("values", "part"),
    [(np.ones(3), "two dimensions"), ([["a"]], "not a number"), (np.ones((1, 1), complex), "complex")],
)
def test_other_values_raise_a_data_error(values: object, part: str) -> None:
    with pytest.raises(DataError, match=part):
        as_rows(values)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("kind", [sp.csr_matrix, sp.csr_array])
def test_a_matrix_with_unsorted_or_duplicate_entries_is_not_changed(dtype: type, kind: type) -> None:
    parts = (np.array([1, 2, 3, 4], dtype), np.array([2, 0, 2, 1], np.int32), np.array([0, 3, 4], np.int32))
    matrix = kind(tuple(part.copy() for part in parts), shape=(2, 3))
    rows = SparseRows.from_scipy(matrix)
    torch.testing.assert_close(rows.to_dense(), torch.tensor([[2.0, 0.0, 4.0], [0.0, 4.0, 0.0]]))
    for array, before in zip((matrix.data, matrix.indices, matrix.indptr), parts, strict=True):
        assert np.array_equal(array, before)
    rows.csr.values().mul_(10)
    assert np.array_equal(matrix.data, parts[0])

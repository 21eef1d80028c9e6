"""Stacked rows against the concatenated matrix."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from hypothesis import given
from hypothesis import strategies as st

from dgl_rbm.rows import sparse, stacked
from dgl_rbm.rows.sparse import SparseRows
from dgl_rbm.rows.stacked import StackedRows, hstack


def both_layouts(rows: int, seed: int) -> tuple[StackedRows, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    left = torch.randint(-1, 2, (rows, 4), generator=generator).float()
    right = torch.randn(rows, 2, generator=generator)
    return StackedRows([SparseRows.from_scipy(sp.csr_matrix(left.numpy())), right]), torch.cat([left, right], dim=1)


@given(rows=st.integers(0, 7), seed=st.integers(0, 100), data=st.data())
def test_products_rows_and_norms_equal_those_of_the_concatenation(rows: int, seed: int, data: st.DataObject) -> None:
    stacked_rows, dense = both_layouts(rows, seed)
    assert stacked_rows.shape == dense.shape
    torch.testing.assert_close(stacked_rows.to_dense(), dense)
    np.testing.assert_allclose(stacked_rows.to_scipy().toarray(), dense.numpy())
    torch.testing.assert_close(sparse.norms(stacked_rows), dense.norm(dim=1))
    left = torch.ones(rows, 3)
    torch.testing.assert_close(sparse.transpose_matmul(stacked_rows, left), dense.T @ left)
    if rows:
        index = torch.tensor(data.draw(st.lists(st.integers(0, rows - 1), max_size=9)), dtype=torch.int64)
        torch.testing.assert_close(sparse.take(stacked_rows, index).to_dense(), dense[index])
    gradients = []
    for form in (stacked_rows, dense):
        weight, bias = torch.linspace(-1, 1, 12).reshape(2, 6).requires_grad_(), torch.ones(2, requires_grad=True)
        sparse.linear(form, weight, bias).square().sum().backward()
        gradients.append((weight.grad, bias.grad))
    for ours, reference in zip(*gradients, strict=True):
        torch.testing.assert_close(ours, reference)


def test_all_parts_are_dropped_from() -> None:
    rows, dense = both_layouts(50, 1)
    torch.manual_seed(0)
    dropped = sparse.dropout(rows, 0.5).to_dense()
    scale = dropped[dense != 0] / dense[dense != 0]
    assert set(scale.round().tolist()) == {0.0, 2.0}
    assert not dropped[dense == 0].any()
    for columns in (slice(0, 4), slice(4, 6)):
        share = (dropped[:, columns] != 0).sum() / (dense[:, columns] != 0).sum()
        assert float(share) == pytest.approx(0.5, abs=0.15)


def test_rows_with_nan_or_infinity_are_found() -> None:
    left = SparseRows.from_scipy(sp.csr_matrix(np.array([[0.0], [np.inf], [1.0], [0.0]], dtype=np.float32)))
    right = torch.tensor([[1.0], [1.0], [1.0], [torch.nan]])
    assert sparse.rows_not_finite(StackedRows([left, right])).tolist() == [1, 3]


def test_large_dense_rows_are_not_concatenated_until_rows_are_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    left, right = torch.randn(5, 3), torch.randn(5, 2)
    assert isinstance(hstack(left, right), torch.Tensor)
    monkeypatch.setattr(stacked, "_COPIED_BYTES", 0)
    rows = hstack(left, right)
    assert isinstance(rows, StackedRows)
    assert rows.parts[0] is left
    picked = rows.take(torch.tensor([4, 0]))
    assert isinstance(picked, torch.Tensor)
    torch.testing.assert_close(picked, torch.cat([left, right], dim=1)[[4, 0]])


def test_the_transposes_by_torch_and_scipy_are_equal() -> None:
    rows = SparseRows.from_scipy(sp.random(40, 17, density=0.2, format="csr", random_state=0))
    ours, reference = rows._transpose_on_device(), rows._transpose_on_cpu()
    torch.testing.assert_close(ours.to_dense(), reference.to_dense())
    assert torch.equal(ours.col_indices(), reference.col_indices())

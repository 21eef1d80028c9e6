"""Encodings of observed and unseen nodes against a loop over nodes."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dgl_rbm.errors import DataError
from dgl_rbm.serving.encodings import Encodings

IDS = [1, 4, 5, 9]


def store(ids: list[int] = IDS) -> Encodings:
    generator = torch.Generator().manual_seed(0)
    return Encodings(
        node_ids=torch.tensor(ids),
        vectors=torch.randn(4, 3, generator=generator),
        values=torch.randn(4, 3, generator=generator),
        shift=torch.tensor([0.1, 0.2, 0.3]),
        scale=torch.tensor([1.0, 2.0, 3.0]),
    )


# In the transductive setting every node is observed, and an id is its own position.
@pytest.mark.parametrize("observed", [IDS, [0, 1, 2, 3]])
@given(st.lists(st.lists(st.integers(0, 12), max_size=6), max_size=5))
def test_unseen_nodes_get_the_mean_over_observed_neighbours(observed: list[int], neighbors: list[list[int]]) -> None:
    encodings = store(observed)
    result = encodings.from_neighbors(neighbors)
    assert result.shape == (len(neighbors), 3)
    for row, ids in zip(result, neighbors, strict=True):
        known = [encodings.vectors[observed.index(i)] for i in ids if i in observed]
        if known:
            mean = sum(known) / len(known)
            torch.testing.assert_close(row, (mean - encodings.shift) * encodings.scale)
        else:
            assert row.tolist() == [0, 0, 0]


@pytest.mark.parametrize("observed", [IDS, [0, 1, 2, 3]])
def test_neighbours_may_be_in_any_order(observed: list[int]) -> None:
    encodings = store(observed)
    rows, near = torch.tensor([2, 0, 2, 1, 0]), torch.tensor([1, 3, 5, 12, 1])
    order = rows.argsort(stable=True)
    torch.testing.assert_close(encodings.unseen(4, rows, near), encodings.unseen(4, rows[order], near[order]))


def test_observed_nodes_are_looked_up_and_others_are_named() -> None:
    encodings = store()
    torch.testing.assert_close(encodings.known(torch.tensor([9, 1])), encodings.values[[3, 0]])
    with pytest.raises(DataError, match=r"\[2, 77\]"):
        encodings.known(torch.tensor([1, 2, 77]))


def test_no_observed_nodes_and_no_columns() -> None:
    none, no_columns = torch.zeros(0, dtype=torch.int64), torch.zeros(0, 0)
    empty = Encodings(none, no_columns, no_columns, torch.zeros(0), torch.zeros(0))
    assert empty.from_neighbors([[1, 2], []]).shape == (2, 0)
    without_columns = Encodings(torch.arange(3), torch.zeros(3, 0), torch.zeros(3, 0), torch.zeros(0), torch.zeros(0))
    assert without_columns.from_neighbors([[1, 2], []]).shape == (2, 0)
    assert empty.dim == 0


def test_state_round_trip() -> None:
    encodings = store()
    again = Encodings.from_state(encodings.state_dict())
    assert all(torch.equal(getattr(again, name), tensor) for name, tensor in encodings.state_dict().items())


@pytest.mark.parametrize("neighbors", [3, [1, 2], [[1.5]], [[True]], [["a"]], "ab"])
def test_wrong_neighbours_are_refused(neighbors: Any) -> None:
    with pytest.raises(DataError, match="neighbors"):
        store().from_neighbors(neighbors)


@pytest.mark.parametrize("ids", [[True, False], [1.5], ["a"], 3, torch.tensor([1]).to_sparse()])
def test_wrong_ids_are_refused(ids: Any) -> None:
    for method in (store().known, store().are_known):
        with pytest.raises(DataError, match="node_ids"):
            method(ids)
    assert store().are_known([1, 2.0]).tolist() == [True, False]

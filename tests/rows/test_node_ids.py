"""The nodes' own ids: positions by id against a dictionary, storage, errors."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dgl_rbm.errors import DataError
from dgl_rbm.rows.node_ids import NodeIds

some_ids = st.one_of(
    st.lists(st.integers(-(2**63), 2**63 - 1), unique=True, max_size=20),
    st.lists(st.text(max_size=5), unique=True, min_size=1, max_size=20),
    st.integers(0, 20).map(lambda count: list(range(count))),
)


@given(some_ids, st.data())
def test_positions_are_those_of_a_dictionary(values: list[Any], data: st.DataObject) -> None:
    ids = NodeIds.of(values, len(values))
    position = {value: place for place, value in enumerate(values)}
    other = st.text(max_size=3) if ids.is_text else st.integers(-(2**63), 2**63 - 1)
    asked = data.draw(st.lists(st.one_of(st.sampled_from(values), other) if values else other, max_size=10))
    assert ids.positions(asked, missing="mark").tolist() == [position.get(value, -1) for value in asked]
    known = [value for value in asked if value in position]
    assert ids.at(ids.positions(known)).tolist() == known
    restored = NodeIds.from_state(ids.state_dict())
    assert restored == ids
    assert restored.values.dtype == ids.values.dtype


def test_positions_need_no_storage() -> None:
    assert NodeIds.of(None, 3).are_positions
    assert NodeIds.of([0, 1, 2], 3).state_dict().keys() == {"count"}
    assert not NodeIds.of([1, 2, 3], 3).are_positions
    assert not NodeIds.of(["0", "1"], 2).are_positions


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: NodeIds.of([1, 2], 3), "2 node ids; the graph has 3 nodes"),
        (lambda: NodeIds.of([1, 2, 1], 3), "not unique: 1 repeated"),
        (lambda: NodeIds.of(["a", "b", "a"], 3), "'a' repeated"),
        (lambda: NodeIds.of([[1], [2]], 2), "shape"),
        (lambda: NodeIds.of(["anna", "bert"], 2).positions([0]), "ids of this graph are text, such as 'anna', 'bert'"),
        (lambda: NodeIds.of(["anna", "bert"], 2).positions(["ana"]), "Did you mean 'anna'"),
        (lambda: NodeIds.of([7, 9], 2).positions(torch.tensor([7, 8])), "no node 8"),
        (lambda: NodeIds.of(None, 2).positions(np.array([2])), "The ids are 0 to 1"),
    ],
)
def test_errors_name_the_id(call: Any, words: str) -> None:
    with pytest.raises(DataError, match=words):
        call()

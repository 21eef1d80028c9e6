"""Training, validation and test nodes in every form that people have them in."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
import torch
from hypothesis import given
from hypothesis import strategies as st

from dgl_rbm.data.dgl_compat import dgl
from dgl_rbm.data.make import make_task, task_from_graph
from dgl_rbm.data.masks import read_parts
from dgl_rbm.errors import DataError
from dgl_rbm.rows.node_ids import NodeIds

N, CHOSEN = 7, [1, 4, 6]
MASK = np.isin(np.arange(N), CHOSEN)
IDS = NodeIds.of(None, N)


def read(values: Any, ids: NodeIds = IDS, **options: Any) -> list[int]:
    problems: list[str] = []
    found = read_parts({"training": values}, ids, problems, **options)["training"]
    assert found is not None, problems
    assert not problems
    assert found.dtype == torch.int64
    return found.tolist()


def problem(values: Any, ids: NodeIds = IDS, **options: Any) -> str:
    problems: list[str] = []
    assert read_parts({"training": values}, ids, problems, **options)["training"] is None
    (only,) = problems
    return only


@pytest.mark.parametrize(
    "values",
    [
        MASK,
        MASK[:, None],
        MASK[None],
        MASK.astype(float),
        MASK.astype(np.uint8),
        MASK.astype(np.float16)[:, None],
        MASK.tolist(),
        MASK.astype(object),
        pd.Series(MASK, index=range(9, 9 + N)),
        pd.Series(MASK, dtype="boolean"),
        torch.from_numpy(MASK).float(),
        np.where(MASK),
        np.nonzero(MASK)[0],
        CHOSEN[::-1],
        [1.0, 4.0, 6.0],
        np.array(CHOSEN, dtype=np.uint8),
        torch.tensor(CHOSEN, dtype=torch.int32),
        torch.from_numpy(MASK).nonzero(),
        np.argwhere(MASK),
        np.array(CHOSEN)[None],
        MASK.astype(np.uint8) * 255,
        pd.DataFrame({"mask": MASK}),
        [*MASK[:-1].astype(int).tolist(), 1.0],
    ],
)
def test_forms(values: Any) -> None:
    assert read(values) == CHOSEN


@given(st.integers(2, 9), st.data())
def test_one_of_several_masks(splits: int, data: st.DataObject) -> None:
    masks = np.array(
        data.draw(st.lists(st.lists(st.booleans(), min_size=N, max_size=N), min_size=splits, max_size=splits))
    )
    index = data.draw(st.integers(-splits, splits - 1))
    expected = np.flatnonzero(masks[index]).tolist()
    # [7, 7] is read by columns.
    for form in (masks.T,) if splits == N else (masks, masks.T, masks.astype(float)):
        if expected:
            assert read(form, split_index=index) == expected
        else:
            assert "mask is empty" in problem(form, split_index=index)
        assert f"{splits} masks" in problem(form)
        assert f"0 to {splits - 1}" in problem(form)
        assert f"split_index is {splits}" in problem(form, split_index=splits)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ("all", "expected a list"),
        ([1, 4.5], "position 1: 4.5 is not a whole number"),
        ([True, None] + [False] * 5, "no value at node 1; expected true or false. `pandas.Series(mask).eq(True)`"),
        (pd.Series(MASK).where(MASK), "NaN or no value at nodes 0, 2, 3, 5"),
        (pd.array([True, pd.NA] + [False] * 5), "no value at node 1"),
        (np.where(MASK, 1.0, np.nan), "NaN or no value at nodes 0, 2, 3, 5"),
        (np.where(MASK[:, None]), "as `numpy.where` returns for a mask of two dimensions. Pass the mask itself"),
        ([np.array([0, 1]), np.array([2])], "have 2 arrays; choose one of them with `split_index`"),
        (sp.csr_matrix(MASK), "`values.toarray()`"),
        (np.array([0, 1, 2, 1, 0, 0, 0], dtype=np.uint8), "nodes 0, 1 more than once"),
        (np.array([0, 2**63], dtype=np.uint64), "beyond the range"),
        (MASK[:-1], "mask has 6 entries; the graph has 7 nodes"),
        (MASK[:-1].astype(int), "mask has 6 entries"),
        (np.zeros((3, 4)), r"shape (3, 4)"),
        (np.zeros((N, 2, 2)), "shape"),
        ([7], "the graph has no node 7. The ids are 0 to 6."),
        ([-1, 2], "no node -1"),
        ([3, 3], "node 3 more than once"),
        ([], "mask is empty"),
        (np.zeros(N), "mask is empty"),
        (["a", "b"], "ids of this graph are integers"),
        ([[0, 1], [2]], "cannot be read as an array"),
        ({1, 4}, "expected a list"),
    ],
)
def test_problems(values: Any, words: str) -> None:
    assert words in problem(values)


def test_nodes_are_named_by_their_own_ids() -> None:
    texts = NodeIds.of([f"n{i}" for i in range(N)], N)
    assert read(["n6", "n1", "n4"], texts) == CHOSEN
    assert read(MASK, texts) == CHOSEN
    assert "the graph has no node 'x'" in problem(["x"], texts)
    from_one = NodeIds.of(np.arange(1, N + 1), N)
    assert read([2, 5, 7], from_one) == CHOSEN
    assert "node 0" in problem([0, 2], from_one)


def graph() -> Any:
    made = dgl.graph(([0, 1, 2, 3, 4, 5, 6], [1, 2, 3, 4, 5, 6, 0]))
    made.ndata["feat"] = torch.eye(N)
    made.ndata["label"] = torch.tensor([0, 1, 2, 0, 1, 0, 1])
    for part, nodes in {"train": [[0, 1], [0, 1, 2]], "val": [[3], [3]], "test": [[4, 5], [5, 6]]}.items():
        made.ndata[f"{part}_mask"] = torch.stack(
            [torch.isin(torch.arange(N), torch.tensor(ids)) for ids in nodes], dim=1
        )
    return made


def test_a_graph_with_several_splits() -> None:
    task = task_from_graph(graph(), split_index=1)
    assert [part.tolist() for part in (task.train_idx, task.val_idx, task.test_idx)] == [[0, 1, 2], [3], [5, 6]]
    with pytest.raises(DataError, match=r"3 reasons[\s\S]*choose one of them with `split_index`"):
        task_from_graph(graph())


def test_a_class_without_training_node_can_be_allowed() -> None:
    with pytest.raises(DataError, match=r"class 2 of the classes 0 to 2; `allow_missing_classes=True` accepts"):
        task_from_graph(graph(), split_index=0)
    task = task_from_graph(graph(), split_index=0, allow_missing_classes=True)
    assert task.num_classes == 3


def test_parts_of_several_splits_stand_beside_parts_of_one() -> None:
    problems: list[str] = []
    given = {"training": np.stack([MASK, ~MASK]), "validation": [np.array([0]), np.array([2, 3])], "test": [5]}
    found = read_parts(given, IDS, problems, split_index=1)
    assert not problems
    assert [part.tolist() for part in found.values() if part is not None] == [[0, 2, 3, 5], [2, 3], [5]]
    read_parts(given | {"test": np.ones((N, 4))}, IDS, problems, split_index=1)
    assert problems == ["the numbers of splits differ: 2 of training, 2 of validation, 4 of test nodes."]


def test_split_index_needs_several_masks() -> None:
    made = graph()
    with pytest.raises(DataError, match="split_index is 2, but the masks hold one split"):
        make_task(
            made, features=torch.eye(N), labels=made.ndata["label"], train=[0, 1, 2], val=[3], test=[4], split_index=2
        )


def test_a_drawn_split_without_a_class_can_be_allowed() -> None:
    made = graph()
    options = {"features": torch.eye(N), "labels": torch.tensor([0, 1, 3, 0, 1, 0, 1]), "num_classes": 4}
    labels = torch.tensor([0, 1, 0, 0, 1, 0, 1])
    for split, words in (("1/1", "class 2 has 0 labelled nodes"), ("0.4/0.3/0.3", "no training node is of class 2, 3")):
        with pytest.raises(DataError, match=rf"{words}[\s\S]*allow_missing_classes=True"):
            make_task(made, **(options | {"labels": labels}), split=split)
        task = make_task(made, **(options | {"labels": labels}), split=split, allow_missing_classes=True)
        assert task.num_classes == 4
        assert set(labels[task.train_idx].tolist()) == {0, 1}
    with pytest.raises(DataError, match="class 3 has 1 labelled nodes"):
        make_task(made, **options, split="1/1", allow_missing_classes=True)


def test_messages_name_nodes_and_classes_as_the_user_does() -> None:
    made = graph()
    options = {"node_ids": [f"n{i}" for i in range(N)], "train": ["n0", "n1"], "val": ["n3"], "test": ["n4", "n1"]}
    features = torch.eye(N)
    features[2, 0] = torch.nan
    with pytest.raises(DataError) as raised:
        make_task(made, features=features, labels=[*"abc", "", *"aba"], **options)
    message = raised.value.message
    assert "features of node n2 are NaN" in message
    assert "overlap in node n1" in message
    assert "validation nodes include node n3 without label" in message
    assert "no training node is of class c of the classes" in message


def test_hints_stay_with_their_problem() -> None:
    made = graph()
    with pytest.raises(DataError, match=r"One row is `x\[None, :\]`"):
        make_task(made, features=torch.ones(N), labels=made.ndata["label"], train=[0, 1, 2], val=[3], test=[4])

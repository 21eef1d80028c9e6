"""Labels of any integers or text become class numbers, and keep their names."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dgl_rbm.data.labels import ReadLabels, read_labels


def read(values: Any, **options: Any) -> ReadLabels:
    problems: list[str] = []
    found = read_labels(values, options.pop("num_nodes", None), options.pop("num_classes", None), problems, **options)
    assert found is not None, problems
    assert not problems
    return found


def problem(values: Any, **options: Any) -> str:
    problems: list[str] = []
    assert read_labels(values, options.pop("num_nodes", None), options.pop("num_classes", None), problems) is None
    (only,) = problems
    return only


@given(st.lists(st.one_of(st.just(-1), st.integers(0, 2**62)), min_size=2, max_size=30))
def test_integers_are_numbered_in_ascending_order(values: list[int]) -> None:
    distinct = sorted(set(values) - {-1})
    if len(distinct) < 2:
        problem(values)
        return
    found = read(values)
    assert found.classes == tuple(distinct)
    assert [-1 if number < 0 else found.classes[number] for number in found.numbers.tolist()] == values
    assert bool(found.notes) == (distinct != list(range(len(distinct))))


@given(st.lists(st.sampled_from(["", "b", "a", "c", "ä"]), min_size=1, max_size=20), st.booleans())
def test_texts_are_numbered_in_alphabetical_order(values: list[str], as_object: bool) -> None:
    if len(set(values) - {""}) < 2:
        problem(values)
        return
    found = read(np.array(values, dtype=object) if as_object else values)
    assert list(found.classes) == sorted(set(values) - {""})
    assert ["" if number < 0 else found.classes[number] for number in found.numbers.tolist()] == values


@pytest.mark.parametrize(
    "values",
    [
        [0, 1, -1, 2],
        [0.0, 1.0, float("nan"), 2.0],
        np.array([[0], [1], [-1], [2]], dtype=">i4"),
        np.array([0, 1, None, 2], dtype=object),
        pd.Series([0, 1, None, 2], dtype="Int64", index=[9, 8, 7, 6]),
        torch.tensor([0.0, 1.0, float("nan"), 2.0], dtype=torch.bfloat16),
    ],
    ids=["integers", "floats", "column", "objects", "pandas", "bfloat16"],
)
def test_forms_of_class_numbers(values: Any) -> None:
    found = read(values)
    assert found.numbers.dtype == torch.int64
    assert (found.numbers.tolist(), found.classes, found.notes) == ([0, 1, -1, 2], (0, 1, 2), ())


def test_large_labels_take_no_memory() -> None:
    found = read(np.array([3_000_000_000, 5, 3_000_000_000, -1]))
    assert (found.numbers.tolist(), found.classes) == ([1, 0, 1, -1], (5, 3_000_000_000))


def test_names_are_those_of_the_numbers() -> None:
    assert read([0, 1, 1], names=["cat", "dog"]).classes == ("cat", "dog")
    # A class without a node keeps its number.
    assert read([0, 2], names=["cat", "dog", "emu"]).numbers.tolist() == [0, 2]


def test_names_are_checked() -> None:
    classes = read([0, 1, 1], names=np.array([4, 9])).classes
    assert classes == (4, 9)
    assert {type(name) for name in classes} == {int}
    for names, words in (
        ([1.5, 2], "position 0: 1.5 is not a whole number"),
        ("ab", "expected a list"),
        (3, "expected a list"),
        ([True, 2], "True is no id"),
        (["a", "a"], "not unique"),
        (["a"], "1 classes are numbered 0 to 0"),
    ):
        problems: list[str] = []
        assert read_labels([0, 1, 1], None, None, problems, names) is None
        assert words in problems[0]


def test_a_given_number_of_classes() -> None:
    assert read([0, 2], num_classes=4).classes == (0, 1, 2, 3)
    assert read([1, 2, 3], num_classes=3).classes == (1, 2, 3)
    assert "2 classes are numbered 0 to 1" in problem([0, 1, 2], num_classes=2)
    assert "2 distinct values (a, b); num_classes is 3" in problem(["a", "b"], num_classes=3)


def test_problems_name_what_is_wrong() -> None:
    assert "neither numbers nor text" in problem([object(), 1])
    assert "neither numbers nor text" in problem(["a", 1.5, None])
    assert "neither numbers nor text" in problem(np.array(["2020-01-01"], dtype="datetime64[D]"))
    assert "node 1 are not whole" in problem([0, 0.5])
    assert "node 0 are below −1" in problem([-2, 0])
    assert "no node has a label" in problem([-1, -1])
    assert "all labels are 7" in problem([7, 7])
    assert "beyond 2^63" in problem(np.array([1, 2**64 - 1], dtype=np.uint64))
    assert "3 labels; the graph has 2 nodes" in problem([0, 1, 2], num_nodes=2)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (None, "labels is None"),
        ("abc", "expected a list"),
        ([[1, 0], [0]], "cannot be read as an array"),
        (torch.empty(3, device="meta"), "on meta"),
        ([2**70, 1, 2], "not whole numbers"),
        ([0, 1, "b"], "neither numbers nor text"),
        ([0, 1, object()], "neither numbers nor text"),
        (np.array([1j, 0, 1]), "neither numbers nor text"),
        (pd.to_datetime(["2020-01-01"] * 3), "neither numbers nor text"),
        ([0, -2, 1], "below −1"),
    ],
)
def test_what_is_no_label(values: Any, words: str) -> None:
    assert words in problem(values)


def test_missing_labels_of_other_kinds() -> None:
    for values in (
        np.ma.masked_array([5, 7, 6], mask=[0, 1, 0]),
        pd.array([5, None, 6], dtype="Int64"),
        pd.Series([5, None, 6]),
        [5, float("nan"), 6],
    ):
        found = read(values)
        assert found.numbers.tolist() == [0, -1, 1]
        assert found.classes == (5, 6)
    assert read([b"a", None, "b"]).classes == ("a", "b")


def test_memory_does_not_grow_with_the_largest_label() -> None:
    found = read([3 * 10**9, 2**62, 7])
    assert found.classes == (7, 3 * 10**9, 2**62)
    assert found.numbers.tolist() == [1, 2, 0]

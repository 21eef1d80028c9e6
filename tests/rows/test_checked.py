"""The checked entry of ids, masks and neighbours against plain loops, and with values of every kind."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from odd_values import odd_arguments, outcome

from dgl_rbm.errors import DataError
from dgl_rbm.rows.checked import as_array, id_array, neighbor_lists, optional_ids

FORMS = {
    "list": list,
    "tuple": tuple,
    "array": np.array,
    "objects": lambda values: np.array([*values, None], dtype=object)[:-1],
    "series": lambda values: pd.Series(values, index=range(5, 5 + len(values))),
    "index": pd.Index,
}
OF_INTEGERS = {
    "tensor": torch.tensor,
    "nullable": lambda values: pd.array(values, dtype="Int64"),
    "arrow": lambda values: pd.array(values, dtype="int64[pyarrow]"),
    "category": lambda values: pd.Series(values).astype("category"),
}


@pytest.mark.parametrize("form", [*FORMS, *OF_INTEGERS])
@given(st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1, max_size=6))
def test_integers_are_kept_to_the_last_digit(form: str, values: list[int]) -> None:
    found = id_array((FORMS | OF_INTEGERS)[form](values))
    assert found.dtype == np.int64
    assert found.tolist() == values


@pytest.mark.parametrize("form", FORMS)
@given(st.lists(st.text(st.characters(exclude_characters="\0", exclude_categories=("Cs",))), min_size=1, max_size=6))
def test_text_is_kept_as_it_is(form: str, values: list[str]) -> None:
    found = id_array(FORMS[form](values))
    assert found.dtype == object
    assert found.tolist() == values


@given(st.lists(st.floats(), min_size=1, max_size=4))
def test_floats_are_ids_if_they_are_whole(values: list[float]) -> None:
    whole = all(np.isfinite(value) and value == int(value) and abs(value) <= 2**53 for value in values)
    if whole:
        assert id_array(values).tolist() == [int(value) for value in values]
        return
    with pytest.raises(DataError, match=r"position \d+: .* is not a whole number"):
        id_array(values)


@settings(max_examples=300)
@given(odd_arguments)
def test_every_value_is_read_exactly_or_refused(values: Any) -> None:
    if (found := outcome(id_array, values)) is None:
        return
    expected = values.tolist() if isinstance(values, torch.Tensor) else list(values)
    assert len(found) == len(expected)
    for one, other in zip(found.tolist(), expected, strict=True):
        assert not isinstance(other, (bool, np.bool_))
        assert one == (other.decode() if isinstance(other, bytes) else other)


@settings(max_examples=200)
@given(odd_arguments)
def test_gaps_among_ids_are_marked(values: Any) -> None:
    if (found := outcome(optional_ids, values)) is not None:
        is_given, ids = found
        assert is_given.sum() == len(ids)
        assert len(is_given) == len(values)


@pytest.mark.parametrize("missing", [None, float("nan"), pd.NA, pd.NaT, "", np.float32("nan")])
def test_forms_of_gaps(missing: Any) -> None:
    is_given, ids = optional_ids([3, missing, 5])
    assert is_given.tolist() == [True, False, True]
    assert ids.tolist() == [3, 5]


@given(st.lists(st.lists(st.integers(-5, 2**62), max_size=4), max_size=6), st.sampled_from([*FORMS]))
def test_neighbours_stand_one_after_the_other(lists: list[list[int]], form: str) -> None:
    expected = [i for ids in lists for i in ids]
    for given_lists in (lists, [FORMS[form](ids) if ids else None for ids in lists], pd.Series(lists, dtype=object)):
        lengths, flat = neighbor_lists(given_lists, len(lists))
        assert lengths.tolist() == [len(ids) for ids in lists]
        assert flat.dtype == np.int64
        assert flat.tolist() == expected


@settings(max_examples=200)
@given(odd_arguments, st.integers(0, 4))
def test_neighbours_of_every_kind_are_read_or_refused(values: Any, count: int) -> None:
    if (found := outcome(neighbor_lists, values, count)) is not None:
        lengths, flat = found
        assert len(lengths) == count
        assert int(lengths.sum()) == len(flat)


@settings(max_examples=200)
@given(odd_arguments)
def test_arrays_have_a_dimension(values: Any) -> None:
    found = outcome(as_array, values, "values")
    assert found is None or found.ndim >= 1

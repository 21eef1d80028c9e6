"""Values of many kinds that users pass by mistake, for tests of public arguments."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse as sp
import torch
from hypothesis import strategies as st

from dgl_rbm.errors import DglRbmError

__all__ = ["Broken", "odd_arguments", "outcome"]


def outcome(function: Callable[..., Any], *values: Any, **arguments: Any) -> Any:
    """Return what `function` returns; None if it raises an error of the package with a message that can be read."""
    try:
        return function(*values, **arguments)
    except DglRbmError as error:
        if not 0 < len(str(error)) < 5000:
            raise AssertionError("The message cannot be read.") from error
        return None


class Broken:
    """Array that cannot be read."""

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        raise KeyError("lost")


_SINGLE = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.integers(-2, 8),
    st.floats(),
    st.sampled_from([0.0, 1.0, 2.0]),
    st.complex_numbers(),
    st.text(max_size=3),
    st.binary(max_size=3),
    st.dates(),
    st.decimals(allow_nan=False),
    st.sampled_from([object(), len, int, pd.NA, pd.NaT, Broken(), Path("nowhere"), "\ud800", Decimal(1), 2**31, 2**63]),
)
_DTYPES = st.sampled_from(["?", "i1", "u1", ">i4", "u8", "f2", "f4", "f8", "c8", "U2", "S2", "M8[s]", "m8[s]", "O"])


@st.composite
def _arrays(draw: st.DrawFn) -> Any:
    shape = draw(st.lists(st.sampled_from([0, 1, 2, 3, 8]), max_size=3))
    values = np.arange(int(np.prod(shape))) % draw(st.sampled_from([1, 2, 3, 100]))
    array = values.reshape(shape).astype("i8").astype(draw(_DTYPES))
    if array.dtype.kind == "c":
        return array
    forms = [
        lambda: array,
        array.tolist,
        lambda: np.ma.masked_array(array, mask=np.arange(array.size).reshape(shape) % 2 == 1),
        lambda: torch.tensor(array.astype("f4")),
        lambda: torch.tensor(array.astype("i8")).to_sparse(),
        lambda: torch.empty(shape, device="meta"),
        lambda: sp.csr_matrix(array.astype("f8")),
        lambda: pd.Series(array, index=np.arange(len(array)) * 2),
        lambda: pd.Series(array.astype(str), dtype="string"),
        lambda: pd.array(array.astype("i8"), dtype="Int64"),
        lambda: pd.DataFrame(array),
    ]
    try:
        return draw(st.sampled_from(forms))()
    except (TypeError, ValueError, IndexError):
        # Not every form has every shape and type.
        return array


def _series(values: list[Any]) -> pd.Series:
    # Filled one by one: pandas before 2.3 reads the values of a list as arrays.
    cells = np.empty(len(values), dtype=object)
    for place, value in enumerate(values):
        cells[place] = value
    return pd.Series(cells, dtype=object)


odd_arguments = st.one_of(
    _arrays(),
    st.recursive(
        _SINGLE,
        lambda inner: st.one_of(
            st.lists(inner, max_size=8),
            st.tuples(inner, inner, inner),
            st.dictionaries(st.text(max_size=2), inner, max_size=2),
            st.lists(inner, max_size=8).map(_series),
        ),
        max_leaves=12,
    ),
)

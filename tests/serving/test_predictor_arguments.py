"""Arguments of predictions: read as what they are, or refused by name, position and value."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
import torch
from hypothesis import given
from hypothesis import strategies as st
from odd_values import Broken, odd_arguments

from dgl_rbm.errors import DataError, DataWarning, DglRbmError
from dgl_rbm.registry import students
from dgl_rbm.rows.node_ids import NodeIds
from dgl_rbm.rows.normalization import FeatureNormalization
from dgl_rbm.serving.encodings import Encodings
from dgl_rbm.serving.predictor import Predictor

NODES, FEATURES, COLUMNS, CLASSES = 8, 3, 2, 4
# Node 5 was hidden from training.
OBSERVED = torch.tensor([0, 1, 2, 3, 4, 6, 7])


def made(ids: Any = None, classes: tuple[Any, ...] = ()) -> Predictor:
    generator = torch.Generator().manual_seed(3)
    vectors = torch.randn(len(OBSERVED), COLUMNS, generator=generator)
    encodings = Encodings(OBSERVED, vectors, vectors + 1, torch.zeros(COLUMNS), torch.ones(COLUMNS))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        student = students.resolve({"kind": "mlp", "hidden_dim": 4}).build(FEATURES + COLUMNS, CLASSES).eval()
    return Predictor(student, encodings, FeatureNormalization(), NodeIds.of(ids, NODES), classes)


ROWS = torch.randn(3, FEATURES, generator=torch.Generator().manual_seed(1))
PREDICTOR = made()
TEXT = made([f"n{i}" for i in range(NODES)])


class OtherArray:
    """Array of another package, such as JAX."""

    def __init__(self, values: np.ndarray) -> None:
        self.values = values

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return self.values.astype(dtype or self.values.dtype)


class OtherTable:
    """Table of another package, such as polars."""

    def __init__(self, columns: dict[str, Any]) -> None:
        self.content, self.columns = columns, list(columns)

    def __getitem__(self, name: str) -> OtherArray:
        return OtherArray(self.content[name])

    def __len__(self) -> int:
        return len(self.content[self.columns[0]])


def encoded(predictor: Predictor, **structure: Any) -> Any:
    return predictor.inputs(ROWS, **structure)[:, FEATURES:]


@pytest.mark.parametrize(
    "ids",
    [
        [6, 0, 3],
        (6, 0, 3),
        range(2, 5),
        np.array([6, 0, 3], dtype=np.uint8),
        np.array([6.0, 0.0, 3.0]),
        np.array([6, 0, 3], dtype=object),
        np.array([6, 0, 3], dtype=">i8"),
        torch.tensor([6, 0, 3], dtype=torch.int32),
        pd.Series([6, 0, 3], index=[9, 1, 1]),
        pd.Series([6, 0, 3], dtype="Int64"),
        pd.DataFrame({"a": [1, 6, 0, 3]})["a"][1:],
        pd.Index([6, 0, 3]),
    ],
    ids=lambda ids: type(ids).__name__,
)
def test_forms_of_ids(ids: Any) -> None:
    place = {int(node): i for i, node in enumerate(OBSERVED)}
    expected = torch.stack([PREDICTOR.encodings.values[place[int(node)]] for node in list(ids)])
    assert torch.equal(encoded(PREDICTOR, node_ids=ids), expected)


@pytest.mark.parametrize(
    ("ids", "words"),
    [
        (np.array([True, False, True]), "mask of 3 booleans"),
        (torch.tensor([True, False, True]), "flatnonzero"),
        ([True, False, True], "mask"),
        ([1.9, 0, 2], "position 0: 1.9 is not a whole number"),
        ([0, float("nan"), 2], "position 1: nan"),
        ([0, None, 2], "position 1: None is no id"),
        (["0", "1", "2"], "'0'.* ids of this graph are integers, such as 0, 1, 2"),
        ([0, "1", 2], "position 1: integers and text are mixed"),
        ([0, True, 2], "position 1: True is no id"),
        ([0, 1], "2 ids for 3 rows"),
        ([[0], [1], [2]], r"shape \(3, 1\)"),
        ([[0, 1], [1]], "cannot be read as an array"),
        (3, r"node_ids is 3; expected a list"),
        ("abc", "expected a list"),
        ({0: 1}, "expected a list"),
        ({0, 1, 2}, "expected a list"),
        ((i for i in range(3)), "is a generator"),
        ([0, 1, 2**63], "position 2: 9223372036854775808 is beyond the range"),
        ([0, 1, 2**64], "position 2: 18446744073709551616 is beyond the range"),
        (np.ma.masked_array([0, 1, 2], mask=[0, 1, 0]), "position 1: None is no id"),
        (pd.array([0, None, 2], dtype="Int64"), "position 1: <NA> is no id"),
        ([b"\xff", b"a", b"b"], "position 0: b'.xff' is not text"),
        (Broken(), "cannot be read as an array: 'lost'"),
        ([0, 1, -1], "no node -1"),
        ([0, 1, 8], "The ids are 0 to 7"),
        ([0, 1, 5], "position 2: node 5 was hidden from training"),
        (np.array(["2020-01-01"] * 3, dtype="datetime64[D]"), "datetime64"),
        (np.array([1j, 2, 3]), "complex"),
        (torch.empty(3, device="meta"), "tensor of layout"),
        (torch.tensor([0, 1, 2]).to_sparse(), "tensor of layout"),
        ([object()] * 3, "position 0"),
    ],
)
def test_wrong_ids_are_refused(ids: Any, words: str) -> None:
    with pytest.raises(DataError, match=words):
        PREDICTOR.predict(ROWS, node_ids=ids)


@pytest.mark.parametrize(
    ("neighbors", "words"),
    [
        ([0, 1, 2], "row 0: 0 is not a list of ids"),
        (np.array([0, 1, 2]), "row 0"),
        (["0 1", "2", ""], "row 0: '0 1' is not a list"),
        ([[0], [1.9], [2]], "row 1, position 0: 1.9"),
        ([[0], [1], [True]], "row 2.* mask"),
        ([[0], [1], [2, True]], "row 2, position 1: True"),
        ([[0], [], [None]], "row 2, position 0: None"),
        ([[0], [1], ["2"]], "row 2: integers and text are mixed"),
        ([["0"], ["1"], ["2"]], "ids of this graph are integers"),
        ([[0], [1]], "2 lists for 3 rows"),
        (7, "expected one list of ids per row"),
        ("abc", "expected one list"),
        ({0: [1]}, "expected one list"),
        ([[[0]], [[1]], [[2]]], r"row 0 has shape \(1, 1\)"),
        (pd.Series([[0], [1.5], [2]]), "row 1"),
        ([[0], Broken(), [2]], "row 1: <.*Broken object.* is not a list"),
        ([[0], {"a": 1}, [2]], "row 1 is {'a': 1}; expected a list"),
        ([[2**63], [], []], "row 0, position 0: 9223372036854775808 is beyond"),
    ],
)
def test_wrong_neighbors_are_refused(neighbors: Any, words: str) -> None:
    with pytest.raises(DataError, match=words):
        PREDICTOR.predict(ROWS, neighbors=neighbors)


@pytest.mark.parametrize(
    "neighbors",
    [
        [[0, 2], [], [7, 7]],
        [np.array([0, 2]), (), torch.tensor([7, 7])],
        [[0, 2], None, [7.0, 7.0]],
        pd.Series([[0, 2], [], [7, 7]], index=[5, 5, 1]),
        np.array([[0, 2], [], [7, 7]], dtype=object),
    ],
    ids=["lists", "arrays", "none", "series", "objects"],
)
def test_forms_of_neighbors(neighbors: Any) -> None:
    vectors = PREDICTOR.encodings.vectors
    expected = torch.stack([(vectors[0] + vectors[2]) / 2, torch.zeros(COLUMNS), vectors[6]])
    torch.testing.assert_close(encoded(PREDICTOR, neighbors=neighbors), expected)


def test_neighbors_outside_the_graph_are_named() -> None:
    with pytest.warns(DataWarning, match="2 of 4 neighbours are not in the training graph, such as 99"):
        found = encoded(PREDICTOR, neighbors=[[0, 99], [-1], [5]])
    torch.testing.assert_close(found[0], PREDICTOR.encodings.vectors[0])
    # A hidden node is in the graph, and has no vector.
    assert not found[1:].any()


def test_nullable_integers_keep_their_digits() -> None:
    large = 2**60 + np.arange(NODES)
    ids = pd.array([large[6] + 0, None, large[3]], dtype="Int64")
    found = encoded(made(large), node_ids=ids, neighbors=[[], [large[2]], []])
    encodings = PREDICTOR.encodings
    torch.testing.assert_close(found, torch.stack([encodings.values[5], encodings.vectors[2], encodings.values[3]]))


@pytest.mark.parametrize("missing", [None, float("nan"), pd.NA])
def test_one_request_mixes_known_and_new_nodes(missing: Any) -> None:
    lists = [[1], [2], [3]]
    found = encoded(PREDICTOR, node_ids=np.array([6, missing, 5], dtype=object), neighbors=lists)
    encodings = PREDICTOR.encodings
    torch.testing.assert_close(found, torch.stack([encodings.values[5], encodings.vectors[2], encodings.vectors[3]]))
    text = encoded(TEXT, node_ids=["n6", "", "new"], neighbors=[["n1"], ["n2"], ["n3"]])
    torch.testing.assert_close(text, found)


@pytest.mark.parametrize(
    "features",
    [
        ROWS.numpy(),
        ROWS.tolist(),
        sp.csr_matrix(ROWS.numpy()),
        ROWS.clone().requires_grad_(),
        ROWS.double(),
        pd.DataFrame(ROWS.numpy(), columns=list("abc"), index=[7, 7, 1]),
        pd.DataFrame(ROWS.numpy(), columns=list("abc")).astype("Float64"),
        np.array(ROWS.tolist(), dtype=object),
        ROWS.numpy().astype(np.longdouble),
        np.rec.fromarrays(ROWS.numpy().T, names="a,b,c"),
        [[Decimal(value) for value in row] for row in ROWS.tolist()],
        OtherArray(ROWS.numpy()),
        OtherTable(dict(zip("abc", ROWS.numpy().T, strict=True))),
    ],
    ids=lambda values: type(values).__name__,
)
def test_forms_of_features(features: Any) -> None:
    torch.testing.assert_close(
        PREDICTOR.predict_proba(features, node_ids=[0, 1, 2]), PREDICTOR.predict_proba(ROWS, node_ids=[0, 1, 2])
    )


def test_tables_of_several_types_are_read_by_column() -> None:
    table = pd.DataFrame({"flag": [True, False], "count": [3, 4], "share": pd.array([0.5, 1], dtype="Float32")})
    plain = torch.tensor([[1, 3, 0.5], [0, 4, 1]])
    assert torch.equal(PREDICTOR.inputs(table), PREDICTOR.inputs(plain))


@pytest.mark.parametrize(
    ("features", "words"),
    [
        (None, "NoneType"),
        ("abc", "of type str, not numbers"),
        (ROWS[0], "One row is"),
        ([[1, 2], [3]], "not numbers"),
        ([["1", "2", "3"]], "column 0, row 0: '1' is not a number"),
        ([[1, 2, 3], [1, "x", 3]], "column 1, row 1: 'x' is not a number"),
        (np.array([["1", "2", "x"]]), "column 0, row 0: '1' is not a number"),
        (np.array([[1, 2, object()]]), "column 2, row 0"),
        (np.ma.masked_array(np.ones((2, 3)), mask=[[0, 0, 0], [0, 1, 0]]), "NaN or infinity: rows 1"),
        (sp.csr_matrix(np.ones((2, 3)) * 1j), "complex"),
        ([[1, 10**400, 3]], "column 1, are not all real numbers"),
        ({"a": [1], "b": [2], "c": [3]}, "of type dict"),
        ([[1, None, 3]], "NaN or infinity"),
        ([[1, float("inf"), 3]], "NaN or infinity: rows 0"),
        ([[1e300, 0, 0]], "NaN or infinity"),
        (pd.DataFrame({"a": [1.0, 2], "b": ["x", "y"], "c": [1, 2]}), "column 'b', row 0: 'x' is not a number"),
        (pd.DataFrame({"a": pd.to_datetime(["2020-01-01"]), "b": [1], "c": [2]}), "column 'a'"),
        (pd.DataFrame([[1, 2, 3]], columns=["a", "a", "b"]), "several columns named 'a'"),
        (torch.ones(2, 3, dtype=torch.complex64), "complex"),
        (torch.empty(2, 3, device="meta"), "without values"),
        (np.array([[np.datetime64("2020-01-01")] * 3]), "not numbers"),
        (torch.ones(1, 3, 1), "two dimensions"),
    ],
)
def test_wrong_features_are_refused(features: Any, words: str) -> None:
    with pytest.raises(DataError, match=words):
        PREDICTOR.predict(features)


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested")
def test_nested_tensors_are_refused() -> None:
    with pytest.raises(DataError, match="nested"):
        PREDICTOR.predict(torch.nested.nested_tensor([torch.ones(3)]))


@pytest.mark.parametrize("encodings", [torch.zeros(2, 2), torch.zeros(3), "a", [[1, "a"]] * 3])
def test_wrong_encodings_are_refused(encodings: Any) -> None:
    with pytest.raises(DataError, match="encodings"):
        PREDICTOR.predict(ROWS, encodings=encodings)


@given(odd_arguments, st.sampled_from(["features", "node_ids", "neighbors", "encodings"]), st.booleans())
def test_odd_arguments_end_in_our_errors_or_are_right(value: Any, name: str, text: bool) -> None:
    predictor = TEXT if text else PREDICTOR
    arguments = {"features": ROWS} | {name: value}
    try:
        found = predictor.inputs(**arguments)
    except DglRbmError:
        return
    if name == "node_ids":
        ids = [f"n{i}" for i in range(NODES)] if text else list(range(NODES))
        assert all(not isinstance(node, (bool, np.bool_)) and node in ids for node in value)
        assert len(found) == len(list(value)) == len(ROWS)


def test_a_predictor_shows_itself_in_a_line() -> None:
    assert repr(PREDICTOR) == "Predictor(mlp, 3 features, 4 classes, 2 encodings of 7 nodes)"


def test_labels_are_those_of_the_graph() -> None:
    names = ("ant", "bee", "cow", "dog")
    numbers = PREDICTOR.predict(ROWS)
    assert isinstance(numbers, torch.Tensor)
    assert list(made(classes=names).predict(ROWS)) == [names[number] for number in numbers.tolist()]
    tens = made(classes=(10, 20, 30, 40)).predict(ROWS)
    assert torch.equal(torch.as_tensor(tens), numbers * 10 + 10)


def test_neighbors_are_averaged_by_weight() -> None:
    vectors = PREDICTOR.encodings.vectors
    lists, weights = [[0, 1], [], [2, 5, 3]], [[1.0, 3.0], [], np.array([0.0, 2.0, 4.0])]
    expected = torch.stack([(vectors[0] + 3 * vectors[1]) / 4, torch.zeros(COLUMNS), vectors[3]])
    torch.testing.assert_close(encoded(PREDICTOR, neighbors=lists, neighbor_weights=weights), expected)
    equal = encoded(PREDICTOR, neighbors=lists, neighbor_weights=[[7, 7], [], [7, 7, 7]])
    torch.testing.assert_close(equal, encoded(PREDICTOR, neighbors=lists))


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ([[1.0], [], [1, 1]], "row 0: 1 weights for 2 neighbours"),
        ([[1.0, 1.0], []], "2 lists for 3"),
        ([[1.0, -1.0], [], [1, 1]], "row 0, position 1: the weight -1"),
        ([[1.0, 1.0], None, [1, float("nan")]], "row 2, position 1: the weight nan"),
        ([["a", "b"], [], [1, 1]], "row 0: expected a list of numbers"),
        ([[1j, 1], [], [1, 1]], "row 0: expected a list of numbers"),
        ([torch.ones(2, 1), [], [1, 1]], "row 0: expected a list of numbers"),
        (3.0, "is a float"),
    ],
)
def test_other_weights_of_neighbors_are_refused(weights: Any, message: str) -> None:
    with pytest.raises(DataError, match=f"neighbor_weights.*{message}"):
        PREDICTOR.predict(ROWS, neighbors=[[0, 1], [], [2, 3]], neighbor_weights=weights)
    with pytest.raises(DataError, match="neighbors, which are missing"):
        PREDICTOR.predict(ROWS, neighbor_weights=weights)

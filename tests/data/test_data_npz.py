"""Dataset `npz`: the layouts of the CPF files and of the heterophilous benchmark, by path."""

from __future__ import annotations

import warnings
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dgl_rbm.data import load_task
from dgl_rbm.errors import DataError, DataWarning
from dgl_rbm.registry import datasets
from dgl_rbm.rows.convert import as_rows
from dgl_rbm.specs import resolve_dataset

N = 6
LABELS = np.array([0, 1, 0, 1, 0, 1])
FEATURES = np.arange(12.0, dtype=np.float32).reshape(N, 2)
EDGES = np.array([[0, 1], [1, 2], [2, 3], [3, 4], [4, 5], [4, 4]])
MASKS = {
    f"{part}_masks": np.isin(np.arange(N), ids)[None] ^ np.array([[False], [True], [False]])
    for part, ids in (("train", [0, 1]), ("val", [2, 3]), ("test", [4, 5]))
}


def once(**changes: Any) -> dict[str, Any]:
    """Return the arrays of the heterophilous benchmark's layout; an array of None is left out."""
    arrays = {"node_features": FEATURES, "node_labels": LABELS, "edges": EDGES, **MASKS, **changes}
    return {name: values for name, values in arrays.items() if values is not None}


def parts(prefix: str, matrix: Any) -> dict[str, Any]:
    csr = sp.csr_matrix(matrix)
    return {f"{prefix}_{part}": getattr(csr, part) for part in ("data", "indices", "indptr", "shape")}


def adjacency(values: Any = 1) -> sp.csr_matrix:
    return sp.csr_matrix((np.broadcast_to(values, len(EDGES)), EDGES.T), shape=(N, N))


def cpf(**changes: Any) -> dict[str, Any]:
    """Return the arrays of the CPF layout; an array of None is left out."""
    arrays = {**parts("adj", adjacency()), **parts("attr", FEATURES), "labels": LABELS, **changes}
    return {name: values for name, values in arrays.items() if values is not None}


def write(folder: Path, arrays: dict[str, Any], name: str = "mine.npz") -> str:
    np.savez(folder / name, **arrays)
    return str(folder / name)


def load(spec: Any) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DataWarning)
        return load_task(resolve_dataset(spec))


def pairs(task: Any) -> list[tuple[int, int]]:
    return sorted(zip(*(ends.tolist() for ends in task.graph.edges()), strict=True))


def stored_pairs() -> list[tuple[int, int]]:
    return sorted(map(tuple, EDGES.tolist()))


def both(edges: np.ndarray = EDGES) -> list[tuple[int, int]]:
    return sorted({tuple(edge) for a, b in edges.tolist() for edge in ((a, b), (b, a))})


class TestHeterophilous:
    def test_edges_stand_for_both_directions_and_a_split_is_chosen(self, tmp_path):
        task = load({"kind": write(tmp_path, once()), "split_index": 0})
        assert task.name == "mine"
        assert pairs(task) == both()
        assert task.features.tolist() == FEATURES.tolist()
        chosen = (task.train_idx.tolist(), task.val_idx.tolist(), task.test_idx.tolist())
        assert chosen == ([0, 1], [2, 3], [4, 5])
        assert task.test_labels().tolist() == [0, 1]
        with pytest.raises(DataError, match="split_index"):
            load(write(tmp_path, once()))
        assert len(load({"kind": write(tmp_path, once()), "split": "1/1"}).test_idx) == 2

    def test_directed_edges_by_the_name_of_the_file_and_by_option(self, tmp_path):
        named = {"kind": write(tmp_path, once(), "squirrel_filtered_directed.npz"), "split_index": 0}
        assert pairs(load(named)) == stored_pairs()
        assert pairs(load(named | {"directed": False})) == both()
        spec = {"kind": write(tmp_path, once()), "split_index": 0}
        assert pairs(load(spec | {"directed": True})) == stored_pairs()
        with pytest.warns(DataWarning, match="edges stand for both directions"):
            load_task(resolve_dataset(spec))

    def test_names_of_pyg(self, tmp_path):
        masks = {name.removesuffix("s"): values[0] for name, values in MASKS.items()}
        arrays = {"x": FEATURES, "y": LABELS, "edge_index": EDGES.T, **masks}
        assert pairs(load(write(tmp_path, arrays))) == stored_pairs()
        # Two edges fit [E, 2] and [2, E].
        two = np.array([[0, 1], [2, 3]])
        assert pairs(load(write(tmp_path, arrays | {"edge_index": two}))) == [(0, 2), (1, 3)]
        assert pairs(load({"kind": write(tmp_path, once(edges=two)), "split_index": 0})) == [
            (0, 1),
            (1, 0),
            (2, 3),
            (3, 2),
        ]

    @pytest.mark.parametrize(
        ("change", "reason"),
        [
            ({"edges": EDGES + 1}, r"the array 'edges' .* contains the node 6; the nodes are 0 to 5"),
            ({"edges": EDGES - 1}, "contains the node -1"),
            ({"edges": EDGES * 1.5}, r"of type float64 and shape \(6, 2\); expected integers"),
            ({"edges": EDGES.ravel()}, r"shape \(12,\)"),
            ({"edges": None}, "no graph in a known layout; its arrays are node_features, node_labels"),
            ({"node_features": None}, "lacks the features, an array 'node_features' or 'x'"),
            ({"node_labels": None}, "lacks the labels, an array 'node_labels' or 'y'"),
            ({"node_labels": np.array([{}] * N)}, "'node_labels' .* contains Python objects, which can run any code"),
            ({"node_labels": np.ones((N, 3), int)}, "is multi-label: its 6 nodes have 18 labels of 3 classes"),
            ({"node_labels": LABELS[:4]}, "there are 4 labels; the graph has 6 nodes"),
            (dict.fromkeys(MASKS), "without masks, give a split such as '20/30'"),
        ],
    )
    def test_wrong_arrays(self, tmp_path, change, reason):
        with pytest.raises(DataError, match=f"(?i){reason}"):
            load({"kind": write(tmp_path, once(**change)), "split_index": 0})


class TestCpf:
    def test_edges_lead_from_row_to_column(self, tmp_path):
        task = load({"kind": write(tmp_path, cpf()), "split": "1/1"})
        assert pairs(task) == stored_pairs()
        assert as_rows(task.features).to_dense().tolist() == FEATURES.tolist()
        assert pairs(load({"kind": write(tmp_path, cpf()), "split": "1/1", "symmetrize": True})) == both()

    def test_dense_matrices(self, tmp_path):
        arrays = {"adj_matrix": adjacency().toarray(), "attr_matrix": FEATURES, "labels": LABELS}
        task = load({"kind": write(tmp_path, arrays), "split": "1/1"})
        assert pairs(task) == stored_pairs()
        assert as_rows(task.features).to_dense().tolist() == FEATURES.tolist()

    def test_values_other_than_one_are_weights(self, tmp_path):
        weights = np.array([0.5, 2.0, 3.0, 4.0, 5.0, 0.0])
        source = datasets.resolve({"kind": "npz", "path": write(tmp_path, cpf(**parts("adj", adjacency(weights))))})
        graph = source.load(0)
        found = {
            (u, v): w
            for u, v, w in zip(*(ends.tolist() for ends in graph.graph.edges()), graph.edge_weight, strict=True)
        }
        assert found == {tuple(edge): weight for edge, weight in zip(EDGES.tolist(), weights, strict=True) if weight}
        plain = datasets.resolve({"kind": "npz", "path": write(tmp_path, cpf())}).load(0)
        assert plain.edge_weight is None

    def test_names_of_classes_and_nodes(self, tmp_path):
        names = {"class_names": np.array(["cat", "dog"]), "node_names": np.array(list("abcdef"))}
        arrays = cpf(**names, attr_names=np.array(["x", "y"]))
        task = load({"kind": write(tmp_path, arrays), "split": "1/1"})
        assert task.classes == ("cat", "dog")
        assert task.ids.values.tolist() == list("abcdef")

    def test_names_that_are_pickled_are_not_read(self, tmp_path):
        names = {"class_names": np.array(["cat", {}], dtype=object), "node_names": np.array([{}] * N)}
        path = write(tmp_path, cpf(**names, metadata=np.array({"a": 1}), extra=np.ones(3)))
        with pytest.warns(DataWarning) as caught:
            task = load_task(resolve_dataset({"kind": path, "split": "1/1"}))
        assert task.classes == (0, 1)
        notes = " ".join(str(warning.message) for warning in caught)
        assert "'class_names' are not used" in notes
        assert "'node_names' are not used" in notes
        assert "the arrays metadata, extra are not used" in notes

    def test_multi_label_graphs_are_refused(self, tmp_path):
        several = sp.csr_matrix(np.eye(3, dtype=int)[np.arange(N) % 3] | np.eye(3, dtype=int)[0])
        stored = parts("labels", several)
        del stored["labels_data"]
        with pytest.raises(DataError, match="is multi-label: its 6 nodes have 10 labels of 3 classes"):
            load({"kind": write(tmp_path, cpf(labels=None, **stored)), "split": "1/1"})

    def test_one_hot_labels_and_nodes_without_label(self, tmp_path):
        one_hot = np.eye(2, dtype=np.uint8)[LABELS]
        assert load({"kind": write(tmp_path, cpf(labels=one_hot)), "split": "1/1"}).classes == (0, 1)
        one_hot[3] = 0
        stored = parts("labels", one_hot)
        task = load({"kind": write(tmp_path, cpf(labels=None, **stored)), "split": "0.4/0.3/0.3"})
        assert task._labels.tolist() == [0, 1, 0, -1, 0, 1]
        labelled = np.arange(N) != 5
        task = load({"kind": write(tmp_path, cpf(labelled=labelled)), "split": "0.4/0.3/0.3"})
        assert task._labels.tolist() == [0, 1, 0, 1, 0, -1]

    def test_an_array_that_declares_more_than_it_contains_is_not_allocated(self, tmp_path):
        path = Path(write(tmp_path, cpf(labels=np.ones(111, dtype=np.int64))))
        content = path.read_bytes()
        assert content.count(b"(111,)") == 1
        path.write_bytes(content.replace(b"(111,), ", b"(9" + b"9" * 4 + b",)"))
        with pytest.raises(DataError, match="is damaged"):
            load({"kind": str(path), "split": "1/1"})


class TestRealData:
    def test_wordnet(self, real_data):
        task = load({"kind": str(real_data / "graphs" / "wordnet.npz"), "split": "0.6/0.2/0.2"})
        assert (task.graph.num_nodes(), task.graph.num_edges(), task.num_classes) == (117_659, 367_578, 45)
        assert task.features.shape == (117_659, 8_412)

    def test_cora(self, real_data):
        task = load({"kind": str(real_data / "cpf" / "cora.npz"), "split": "20/30", "symmetrize": True})
        assert (task.graph.num_nodes(), task.features.shape[1], task.num_classes) == (2_708, 1_433, 7)

    def test_debian_tags_are_multi_label(self, real_data):
        with pytest.raises(DataError, match="is multi-label: its 63,436 nodes have 89,825 labels of 74 classes"):
            load({"kind": str(real_data / "graphs" / "debian_tags.npz"), "split": "20/30"})


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(data=st.data())
def test_a_changed_byte_never_ends_in_a_foreign_error(data: st.DataObject, tmp_path: Path) -> None:
    path = Path(write(tmp_path, data.draw(st.sampled_from([once(), cpf()]))))
    content = bytearray(path.read_bytes())
    for position in data.draw(st.lists(st.integers(0, len(content) - 1), min_size=1, max_size=4)):
        content[position] = data.draw(st.integers(0, 255))
    path.write_bytes(bytes(content))
    # Other exceptions than the package's own fail the test.
    with suppress(DataError):
        load({"kind": "npz", "path": str(path), "split": "1/1"})

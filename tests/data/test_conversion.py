"""Tasks from networkx, SciPy, PyG and arrays: edges, ids, classes and weights against plain loops."""

from __future__ import annotations

import inspect
import warnings
from types import SimpleNamespace
from typing import Any

import networkx as nx
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
import torch
from hypothesis import given
from hypothesis import strategies as st

import dgl_rbm
from dgl_rbm import from_arrays, from_networkx, from_pyg, from_scipy
from dgl_rbm.data.conversion import common
from dgl_rbm.errors import ConfigError, DataError, DataWarning, UnknownNameError
from dgl_rbm.rows.convert import as_rows

N = 12
FEATURES = np.arange(2.0 * N, dtype=np.float32).reshape(N, 2)
LABELS = np.arange(N) % 2
RING = [(node, (node + 1) % N) for node in range(N)]
SPLIT: dict[str, Any] = {"split": "2/2"}
MASKS = {
    f"{part}_mask": torch.isin(torch.arange(N), torch.tensor(ids))
    for part, ids in (("train", [0, 1]), ("val", [2, 3]), ("test", [4, 5]))
}


def pairs(task: Any) -> list[tuple[int, int]]:
    return sorted(zip(*(ends.tolist() for ends in task.graph.edges()), strict=True))


def weights(make: Any, *args: Any, **options: Any) -> dict[tuple[int, int], float] | None:
    """Return the weight of each edge that a conversion passes on; None without weights."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(common, "build_task", lambda source, **_: source)
        source = make(*args, **options)
    if source.edge_weight is None:
        return None
    edges = zip(*(ends.tolist() for ends in source.graph.edges()), strict=True)
    return dict(zip(edges, map(float, source.edge_weight), strict=True))


def quietly(make: Any, *args: Any, **options: Any) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DataWarning)
        return make(*args, **options)


class TestArrays:
    @pytest.mark.parametrize(
        "edges",
        [
            tuple(np.array(RING).T),
            np.array(RING),
            np.array(RING).T,
            torch.tensor(RING).T,
            RING,
            [list(end) for end in np.array(RING).T],
            pd.DataFrame(RING, columns=["a", "b"]),
            np.array(RING, dtype=np.float64),
        ],
        ids=["tuple", "[E, 2]", "[2, E]", "tensor", "pairs", "two lists", "frame", "floats"],
    )
    def test_edges_of_every_form(self, edges):
        task = from_arrays(edges, FEATURES, LABELS, **SPLIT)
        assert pairs(task) == sorted(RING)
        assert task.features.tolist() == FEATURES.tolist()
        assert task.name == "graph"

    def test_edges_of_own_ids(self):
        ids = [f"n{node}" for node in reversed(range(N))]
        task = from_arrays([(ids[u], ids[v]) for u, v in RING], FEATURES, LABELS, node_ids=ids, **SPLIT)
        assert pairs(task) == sorted(RING)
        assert task.ids.values.tolist() == ids
        large = np.arange(N) * 10**12 + 5
        task = from_arrays(tuple(large[np.array(RING).T]), FEATURES, LABELS, node_ids=large, **SPLIT)
        assert pairs(task) == sorted(RING)

    def test_labels_of_text_and_own_split(self):
        names = np.array(["cat", "dog"])[LABELS]
        parts = {"train": [0, 1], "val": [2, 3], "test": [4, 5]}
        task = from_arrays(RING, FEATURES, names, name="pets", **parts)
        assert (task.name, task.classes) == ("pets", ("cat", "dog"))
        assert (task.train_idx.tolist(), task.test_idx.tolist()) == ([0, 1], [4, 5])

    def test_weights_follow_their_edges(self):
        values = np.arange(1.0, N + 1)
        found = weights(from_arrays, RING, FEATURES, LABELS, weight=values, **SPLIT)
        assert found == dict(zip(RING, values, strict=True))

    def test_features_from_a_file(self, tmp_path):
        np.save(tmp_path / "x.npy", FEATURES)
        assert from_arrays(RING, tmp_path / "x.npy", LABELS, **SPLIT).features.tolist() == FEATURES.tolist()

    @pytest.mark.parametrize(
        ("edges", "reason"),
        [
            ([(0, 1), (1, N)], r"edges has shape \(2, 2\), which fits both"),
            (([0, 1], [1, N]), "Edge 1, 1 to 12: there is no node 12"),
            (([0, -1], [1, 2]), "Edge 1, -1 to 2: there is no node -1"),
            (([0, 1], [1]), "2 sources and 1 targets"),
            (([0.5, 1], [1, 2]), "0.5 is not a whole number"),
            (([True, False], [1, 2]), "the sources of the edges"),
            ((["a", "b"], ["b", "a"]), "the ids of this graph are integers"),
            (np.zeros((3, 3), int), r"edges has shape \(3, 3\)"),
            ("0 1", "edges is '0 1'"),
            (None, "edges is None"),
            ([(0, None)] * 3, "the targets of the edges"),
        ],
    )
    def test_wrong_edges(self, edges, reason):
        with pytest.raises(DataError, match=reason):
            from_arrays(edges, FEATURES, LABELS, **SPLIT)

    def test_a_graph_without_edges(self):
        assert from_arrays([], FEATURES, LABELS, **SPLIT).graph.num_edges() == 0


@given(
    edges=st.lists(st.tuples(st.integers(0, N - 1), st.integers(0, N - 1)), min_size=3),
    ids=st.permutations([f"id {i}" for i in range(N)]),
)
def test_own_ids_and_positions_give_the_same_graph(edges: list[tuple[int, int]], ids: list[str]) -> None:
    named = from_arrays([(ids[u], ids[v]) for u, v in edges], FEATURES, LABELS, node_ids=ids, **SPLIT)
    assert pairs(named) == sorted(edges)
    for u, v in edges:
        assert named.ids.values[u] == ids[u]
        assert named.graph.has_edges_between(u, v)


class TestScipy:
    def matrix(self, values: Any = 1.0, kind: Any = sp.csr_matrix) -> Any:
        return kind((np.broadcast_to(values, N), np.array(RING).T), shape=(N, N))

    @pytest.mark.parametrize("kind", [sp.csr_matrix, sp.csc_matrix, sp.coo_matrix, sp.csr_array, sp.coo_array])
    def test_rows_are_sources(self, kind):
        assert pairs(from_scipy(self.matrix(kind=kind), FEATURES, LABELS, **SPLIT)) == sorted(RING)

    def test_dense_and_boolean_matrices(self):
        assert pairs(from_scipy(self.matrix().toarray(), FEATURES, LABELS, **SPLIT)) == sorted(RING)
        assert weights(from_scipy, self.matrix().astype(bool), FEATURES, LABELS, **SPLIT) is None

    def test_values_are_weights_and_zeros_are_no_edges(self):
        values = np.arange(float(N))
        found = weights(from_scipy, self.matrix(values), FEATURES, LABELS, **SPLIT)
        assert found == {edge: value for edge, value in zip(RING, values, strict=True) if value}

    def test_own_ids(self):
        ids = [f"n{node}" for node in range(N)]
        assert from_scipy(self.matrix(), FEATURES, LABELS, node_ids=ids, **SPLIT).ids.values.tolist() == ids

    @pytest.mark.parametrize(
        ("matrix", "reason"),
        [
            (sp.csr_matrix((N, N + 1)), "expected \\[N, N\\]"),
            ([[0, 1]], "adjacency is a list"),
            (np.zeros((2, 2), object), "adjacency is a ndarray"),
            (sp.identity(5), "12 rows; the graph has 5 nodes"),
        ],
    )
    def test_wrong_matrices(self, matrix, reason):
        with pytest.raises(DataError, match=reason):
            from_scipy(matrix, FEATURES, LABELS, **SPLIT)


class TestNetworkx:
    def graph(self, kind: Any = nx.Graph, **attributes: Any) -> Any:
        graph = kind()
        for node in range(N):
            graph.add_node(node, feat=FEATURES[node].tolist(), label=int(LABELS[node]), days=float(node))
        graph.add_edges_from(RING, **attributes)
        return graph

    def test_undirected_edges_in_both_directions_and_self_loops_once(self):
        graph = self.graph()
        graph.add_edge(3, 3)
        task = quietly(from_networkx, graph, **SPLIT)
        assert pairs(task) == sorted({*RING, *((v, u) for u, v in RING), (3, 3)})
        assert task.features.tolist() == FEATURES.tolist()

    def test_directed_and_repeated_edges(self):
        assert pairs(quietly(from_networkx, self.graph(nx.DiGraph), **SPLIT)) == sorted(RING)
        graph = self.graph(nx.MultiDiGraph)
        graph.add_edge(0, 1)
        assert pairs(quietly(from_networkx, graph, **SPLIT)) == sorted([*RING, (0, 1)])

    def test_several_attributes_side_by_side_and_an_array(self):
        task = quietly(from_networkx, self.graph(), features=["days", "feat"], **SPLIT)
        assert task.features.tolist() == np.column_stack([np.arange(N), FEATURES]).tolist()
        task = quietly(from_networkx, self.graph(), features=sp.csr_matrix(FEATURES), **SPLIT)
        assert as_rows(task.features).to_dense().tolist() == FEATURES.tolist()

    def test_names_of_nodes_and_classes_are_kept(self):
        graph = nx.relabel_nodes(self.graph(), {node: f"page {node}" for node in range(N)})
        for node in graph:
            graph.nodes[node]["label"] = "odd" if graph.nodes[node]["label"] else "even"
        del graph.nodes["page 7"]["label"]
        task = quietly(from_networkx, graph, **SPLIT)
        assert task.ids.values.tolist() == list(graph.nodes)
        assert task.classes == ("even", "odd")
        assert task._labels[7] == -1

    def test_nodes_that_are_no_ids_are_named_by_their_text(self):
        graph = nx.relabel_nodes(self.graph(), {node: (node, 0) for node in range(N)})
        with pytest.warns(DataWarning) as caught:
            task = from_networkx(graph, **SPLIT)
        assert task.ids.values[1] == "(1, 0)"
        text = " ".join(str(warning.message) for warning in caught)
        assert "the ids of the nodes are their text, such as '(0, 0)'" in text
        assert "the node attributes days are not used" in text

    def test_masks(self):
        graph = self.graph()
        for name, mask in MASKS.items():
            nx.set_node_attributes(graph, {node: True for node in range(N) if mask[node]}, name)
        task = quietly(from_networkx, graph)
        assert (task.train_idx.tolist(), task.val_idx.tolist(), task.test_idx.tolist()) == ([0, 1], [2, 3], [4, 5])
        assert len(quietly(from_networkx, graph, **SPLIT).train_idx) == 4
        assert quietly(from_networkx, graph, train=[6, 7], val=[8, 9], test=[10, 11]).train_idx.tolist() == [6, 7]

    def test_weights(self):
        graph = self.graph(weight=2.0)
        graph.add_edge(0, 5, weight=7)
        graph.add_edge(0, 6)
        with pytest.warns(DataWarning, match="1 of 14 edges have no attribute 'weight'; their weight is 1"):
            from_networkx(graph, **SPLIT)
        found = weights(from_networkx, graph, **SPLIT)
        assert (found[0, 5], found[5, 0], found[0, 6], found[1, 0]) == (7, 7, 1, 2)
        assert weights(from_networkx, graph, weight="", **SPLIT) is None
        with pytest.raises(DataError, match=r"no edge attribute 'wight' for the weights\. Did you mean 'weight'"):
            from_networkx(graph, weight="wight", **SPLIT)
        graph.edges[0, 5]["weight"] = "heavy"
        with pytest.raises(DataError, match="edge 0 to 5, attribute 'weight': 'heavy' is not a number"):
            from_networkx(graph, **SPLIT)

    def test_wrong_attributes(self):
        graph = self.graph()
        with pytest.raises(DataError, match=r"no node attribute 'labl' for the labels\. Did you mean 'label'"):
            from_networkx(graph, label="labl", **SPLIT)
        with pytest.raises(DataError, match=r"no node attribute 'fet' for the features\. Did you mean 'feat'"):
            from_networkx(graph, features="fet", **SPLIT)
        graph.nodes[4]["feat"] = [1.0]
        with pytest.raises(DataError, match="node 4, attribute 'feat' has 1 numbers; those of other nodes have 2"):
            from_networkx(graph, **SPLIT)
        graph.nodes[4]["feat"] = "text"
        with pytest.raises(DataError, match="node 4, attribute 'feat': 'text' is not a number"):
            from_networkx(graph, **SPLIT)
        del graph.nodes[4]["feat"]
        with pytest.raises(DataError, match="node 4 has no attribute 'feat'"):
            from_networkx(graph, **SPLIT)
        with pytest.raises(DataError, match="graph is a list; expected a networkx graph"):
            from_networkx(RING)
        with pytest.raises(DataError, match="no nodes"):
            from_networkx(nx.Graph())


class Data:
    """Stand-in for `torch_geometric.data.Data`: attributes, those unset are None, and `keys`."""

    def __init__(self, **values: Any) -> None:
        self.__dict__.update(dict.fromkeys(("x", "y", "edge_index", "edge_attr", "pos")), **values)

    def keys(self) -> list[str]:
        return [name for name, value in vars(self).items() if value is not None]


class TestPyg:
    def data(self, **changes: Any) -> Any:
        values = {"x": torch.from_numpy(FEATURES), "y": torch.from_numpy(LABELS), "edge_index": torch.tensor(RING).T}
        return Data(**(values | changes))

    def test_edges_masks_and_ids(self):
        task = from_pyg(self.data(**MASKS), node_ids=np.arange(N) + 100)
        assert pairs(task) == sorted(RING)
        assert task.features.tolist() == FEATURES.tolist()
        assert (task.train_idx.tolist(), task.val_idx.tolist(), task.test_idx.tolist()) == ([0, 1], [2, 3], [4, 5])
        assert task.ids.values.tolist() == list(range(100, 100 + N))
        assert len(from_pyg(self.data(**MASKS), **SPLIT).train_idx) == 4

    def test_one_of_ten_splits(self):
        several = {name: torch.stack([mask.roll(k) for k in range(10)], dim=1) for name, mask in MASKS.items()}
        assert from_pyg(self.data(**several), split_index=3).train_idx.tolist() == [3, 4]
        with pytest.raises(DataError, match="split_index"):
            from_pyg(self.data(**several))

    def test_weights(self):
        values = torch.arange(1.0, N + 1)
        expected = dict(zip(RING, values.tolist(), strict=True))
        assert weights(from_pyg, self.data(edge_weight=values), **SPLIT) == expected
        for attribute in (values, values[:, None]):
            with pytest.warns(DataWarning, match="edge_attr, one number per edge, contains the edge weights"):
                from_pyg(self.data(edge_attr=attribute), **SPLIT)
            assert weights(from_pyg, self.data(edge_attr=attribute), **SPLIT) == expected
        with pytest.warns(DataWarning, match=r"edge_attr, of shape \(12, 3\), is not used"):
            from_pyg(self.data(edge_attr=torch.ones(N, 3)), **SPLIT)
        assert weights(from_pyg, self.data(edge_attr=torch.ones(N, 3)), **SPLIT) is None

    def test_transposed_adjacency(self):
        source, target = torch.tensor(RING).T
        adj_t = torch.sparse_coo_tensor(torch.stack([target, source]), torch.ones(N), (N, N))
        assert pairs(from_pyg(self.data(edge_index=None, adj_t=adj_t), **SPLIT)) == sorted(RING)
        values = torch.arange(1.0, N + 1)
        of_torch_sparse = SimpleNamespace(coo=lambda: (target, source, values))
        found = weights(from_pyg, self.data(edge_index=None, adj_t=of_torch_sparse), **SPLIT)
        assert found == dict(zip(RING, values.tolist(), strict=True))

    def test_other_names_and_plain_objects(self):
        plain = SimpleNamespace(h=FEATURES, topic=LABELS, edge_index=np.array(RING).T)
        assert pairs(from_pyg(plain, features="h", label="topic", **SPLIT)) == sorted(RING)

    @pytest.mark.parametrize(
        ("data", "reason"),
        [
            ({"x": None}, r"no attribute 'x' for the features\. There are: edge_index, y"),
            ({"y": None}, "no attribute 'y' for the labels"),
            ({"edge_index": None}, "without edge_index"),
            ({"edge_index": torch.zeros(3, 2, dtype=torch.int64)}, r"shape \(3, 2\); expected \[2, E\]"),
            ({"edge_index": torch.tensor([[0], [N]])}, "there is no node 12"),
            ({"y": torch.ones(N, 3)}, r"the labels have shape \(12, 3\)"),
            ({"node_types": ["a", "b"]}, "a heterogeneous graph"),
        ],
    )
    def test_wrong_data(self, data, reason):
        with pytest.raises(DataError, match=reason):
            from_pyg(self.data(**data), **SPLIT)

    def test_things_that_are_no_data(self):
        for wrong in (None, [1], "cora", torch.ones(2), {}):
            with pytest.raises(DataError, match="expected a PyG Data"):
                from_pyg(wrong)


class TestOptions:
    def test_they_are_those_of_make_task(self):
        known = inspect.signature(dgl_rbm.make_task).parameters.keys()
        assert {*common.OPTIONS} == known - {"graph", "features", "labels", "node_ids", "edge_weight"}

    def test_they_reach_the_task(self):
        options = {"split": "2/2", "setting": "inductive", "unseen_fraction": 0.5, "normalize": "standard", "seed": 3}
        task = from_arrays(RING, FEATURES, LABELS, symmetrize=True, rescale=False, name="ring", **options)
        graph = from_arrays(RING, FEATURES, LABELS, **SPLIT).graph
        other = dgl_rbm.make_task(
            graph, features=FEATURES, labels=LABELS, symmetrize=True, rescale=False, name="ring", **options
        )
        assert pairs(task) == pairs(other)
        assert task.features.equal(other.features)
        assert task.unseen_idx.equal(other.unseen_idx)
        assert (task.name, task.setting) == ("ring", "inductive")

    @pytest.mark.parametrize(
        "call",
        [
            lambda: dgl_rbm.Distiller(splitt="2/2"),
            lambda: dgl_rbm.Distiller().fit("digits", splitt="2/2"),
            lambda: dgl_rbm.make_task(None, features=None, labels=None, splitt="2/2"),
            lambda: dgl_rbm.task_from_graph(None, splitt="2/2"),
            lambda: from_arrays(RING, FEATURES, LABELS, splitt="2/2"),
            lambda: from_scipy(sp.identity(N), FEATURES, LABELS, splitt="2/2"),
            lambda: from_networkx(nx.path_graph(3), splitt="2/2"),
            lambda: from_pyg(Data(), splitt="2/2"),
        ],
    )
    def test_an_unknown_one_is_an_error_with_the_nearest_name(self, call):
        with pytest.raises(UnknownNameError, match=r"There is no argument of .* 'splitt'\. ") as caught:
            call()
        assert ("Did you mean 'split'" in str(caught.value)) == ("Distiller '" not in str(caught.value))

    def test_a_missing_argument_is_an_error_of_the_package(self):
        with pytest.raises(ConfigError, match=r"make_task: missing a required (keyword-only )?argument: 'features'"):
            dgl_rbm.make_task(None)  # type: ignore[call-arg]

    def test_a_wrong_value_is_an_error_of_the_package(self):
        with pytest.raises(ConfigError, match="setting"):
            from_arrays(RING, FEATURES, LABELS, setting="both", **SPLIT)


def test_a_task_fits_a_line():
    text = repr(from_arrays(RING, FEATURES, LABELS, name="ring", **SPLIT))
    assert len(text.splitlines()) == 1
    assert len(text) < 160
    assert "unseen" not in text
    inductive = {"setting": "inductive", "unseen_fraction": 0.5}
    assert "4/4/4, 2 of them unseen" in repr(from_arrays(RING, FEATURES, LABELS, **inductive, **SPLIT))
    for part in ("ring", "12 nodes", "12 edges", "2 features", "2 classes", "4/4/4", "transductive"):
        assert part in text

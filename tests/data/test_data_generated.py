"""Datasets without files: handwritten digits and the block model."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.datasets import load_digits
from threadpoolctl import threadpool_limits

from dgl_rbm.data import load_task, synthetic
from dgl_rbm.data.synthetic import SyntheticConfig, _interval_at, _starting_points, block_model_edges
from dgl_rbm.errors import ConfigError, DataError, DatasetNotFoundError
from dgl_rbm.registry import datasets


def pairs(graph):
    return list(zip(*(ends.tolist() for ends in graph.edges()), strict=True))


def test_digits():
    task = load_task("digits", "inductive", 0)
    assert task.graph.num_nodes() == 1797
    assert task.features.shape == (1797, 64)
    assert float(task.features.max()) == 1.0
    assert (len(task.train_idx), len(task.val_idx), len(task.test_idx)) == (200, 300, 1297)
    assert len(task.unseen_idx) == round(0.2 * 1297)
    edges = set(pairs(task.graph))
    assert len(edges) == task.graph.num_edges()
    assert edges == {(v, u) for u, v in edges}
    assert all(u != v for u, v in edges)
    assert int(task.graph.in_degrees().min()) >= 6


def nearest_digits(count):
    """The nearest other images of each by whole-number distances, sorted by distance and then by index."""
    pixels = load_digits().data.astype(int)
    distances = np.stack([((pixels - row) ** 2).sum(axis=1) for row in pixels]).tolist()
    return [
        sorted((other for other in range(len(row)) if other != node), key=lambda other: (row[other], other))[:count]
        for node, row in enumerate(distances)
    ]


@pytest.mark.parametrize("threads", [1, 2, 4])
def test_ties_among_digits_go_to_the_smaller_index_with_any_number_of_threads(threads):
    expected = {
        pair
        for node, others in enumerate(nearest_digits(6))
        for other in others
        for pair in ((node, other), (other, node))
    }
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        with threadpool_limits(threads):
            graph = load_task("digits").graph
    finally:
        torch.set_num_threads(before)
    assert graph.num_edges() == 15_044
    assert sorted(pairs(graph)) == sorted(expected)


def test_digits_have_ties_at_the_border():
    pixels = load_digits().data.astype(int)
    rows = [np.sort(((pixels - row) ** 2).sum(axis=1)) for row in pixels]
    # Position 0 is the image itself.
    assert any(row[6] == row[7] for row in rows)


def test_every_number_of_neighbours_of_digits_has_a_graph():
    assert load_task({"kind": "digits", "num_neighbors": 1796}).graph.num_edges() == 1797 * 1796


def test_digits_split_follows_the_seed_and_the_graph_does_not():
    first, again, other = (load_task("digits", seed=seed) for seed in (0, 0, 1))
    assert first.train_idx.equal(again.train_idx)
    assert not first.train_idx.equal(other.train_idx)
    assert pairs(first.graph) == pairs(other.graph)


def test_shared_options():
    options = {"kind": "digits", "split": "0.5/0.25/0.25", "unseen_fraction": 0.5, "normalize": "standard"}
    task = load_task({**options, "num_neighbors": 2}, "inductive")
    assert abs(len(task.train_idx) - 898) < 10
    assert len(task.unseen_idx) == round(0.5 * len(task.test_idx))
    observed = task.observed().features
    torch.testing.assert_close(observed.mean(0), torch.zeros(64), atol=1e-5, rtol=0)
    assert task.normalization.kind == "standard"
    assert load_task("digits").normalization.kind == "none"


@pytest.mark.parametrize(
    ("option", "value"),
    [("split", "public"), ("unseen_fraction", 0), ("unseen_fraction", 1.5), ("normalize", "l2"), ("num_neighbors", 0)],
)
def test_wrong_options(option, value):
    with pytest.raises(ConfigError, match=option):
        datasets.resolve({"kind": "digits", option: value})


def test_every_option_is_described():
    for name in datasets.names():
        for option, field in datasets.config_class(name).model_fields.items():
            assert option == "kind" or field.description, (name, option)


SMALL = {"kind": "synthetic", "num_nodes": 600, "num_classes": 3, "num_features": 8}


def test_synthetic():
    task = load_task(SMALL)
    edges = pairs(task.graph)
    assert len(set(edges)) == len(edges)
    assert set(edges) == {(v, u) for u, v in edges}
    assert all(u != v for u, v in edges)
    labels = SyntheticConfig(**SMALL).load(0).labels
    assert torch.bincount(labels).tolist() == [200, 200, 200]
    assert 8 < len(edges) / 600 <= 10
    same = sum(bool(labels[u] == labels[v]) for u, v in edges) / len(edges)
    assert 0.74 < same < 0.84
    assert (len(task.train_idx), len(task.val_idx), len(task.test_idx)) == (360, 120, 120)


def test_synthetic_features_are_class_means_and_unit_noise():
    source = SyntheticConfig(num_nodes=6000, num_classes=3, num_features=8, feature_signal=2.0).load(0)
    for label in range(3):
        rows = source.features[source.labels == label]
        assert abs(float(rows.mean(0).norm()) - 2.0) < 0.1
        torch.testing.assert_close(rows.std(0), torch.ones(8), atol=0.07, rtol=0)


def test_synthetic_seeds():
    first, other_split = load_task(SMALL, seed=0), load_task(SMALL, seed=1)
    other_graph = load_task(SMALL | {"graph_seed": 1})
    assert pairs(first.graph) == pairs(other_split.graph)
    assert first.features.equal(other_split.features)
    assert not first.train_idx.equal(other_split.train_idx)
    assert not first.features.equal(other_graph.features)


def test_synthetic_degrees_follow_the_exponent():
    heavy = load_task(SMALL | {"num_nodes": 3000, "degree_exponent": 2.1}).graph.in_degrees().double()
    equal = load_task(SMALL | {"num_nodes": 3000, "degree_exponent": None}).graph.in_degrees().double()
    assert abs(float(equal.mean()) - 10) < 0.5
    assert abs(float(equal.var()) - 10) < 1.5
    assert float(heavy.max()) > 3 * float(equal.max())


def test_synthetic_without_edges_and_with_few_nodes():
    assert load_task(SMALL | {"average_degree": 0}).graph.num_edges() == 0
    with pytest.raises(DataError, match="20/30 needs more than 50"):
        load_task({"kind": "synthetic", "num_nodes": 30, "split": "20/30"})


@pytest.mark.parametrize("homophily", [0.0, 0.3, 1.0])
def test_block_model_ends_follow_weights_and_classes(homophily):
    labels = np.array([0, 1, 2, 0, 1, 2, 0, 1])
    weights = np.array([4.0, 1.0, 2.0, 1.0, 2.0, 3.0, 2.0, 1.0])
    totals = [sum(weights[labels == label]) for label in range(3)]
    expected = np.zeros((8, 8))
    for first in range(8):
        for second in range(8):
            inside = totals[labels[first]]
            share = homophily / inside if labels[first] == labels[second] else (1 - homophily) / (sum(totals) - inside)
            expected[first, second] = weights[first] / sum(totals) * weights[second] * share
    probability = expected + expected.T
    found = np.zeros((8, 8))
    generator = np.random.default_rng(0)
    rounds = 4000
    for _ in range(rounds):
        for key in block_model_edges(labels, weights, 1, homophily, generator):
            found[key // 8, key % 8] += 1
    for first in range(8):
        for second in range(first + 1, 8):
            mean = probability[first, second]
            slack = 5 * (mean * (1 - mean) / rounds) ** 0.5 + 1e-12
            assert abs(found[first, second] / rounds - mean) <= slack, (first, second)
    assert np.tril(found).sum() == 0


@given(st.lists(st.floats(1e-3, 1e3), min_size=1, max_size=40), st.lists(st.floats(0, 1), max_size=30))
def test_intervals_equal_those_of_a_search(weights, shares):
    ends = np.cumsum(weights)
    position = np.concatenate([np.array(shares) * ends[-1], ends, [0.0]])
    expected = np.minimum(np.searchsorted(ends, position, side="right"), len(ends) - 1)
    assert _interval_at(ends, _starting_points(ends), position).tolist() == expected.tolist()


def test_a_graph_drawn_in_blocks_is_valid(monkeypatch):
    monkeypatch.setattr(synthetic, "_EDGES_AT_ONCE", 500)
    monkeypatch.setattr(synthetic, "_ROWS_AT_ONCE", 100)
    whole = load_task(SMALL)
    edges = pairs(whole.graph)
    assert len(set(edges)) == len(edges) > 8 * 600
    assert set(edges) == {(v, u) for u, v in edges}
    assert all(u != v for u, v in edges)


class TestKeptOnDisk:
    @pytest.fixture(autouse=True)
    def folder(self, tmp_path, monkeypatch):
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
        return tmp_path / "dgl-rbm" / "synthetic"

    def test_it_equals_the_graph_in_memory(self, folder, monkeypatch):
        held = SyntheticConfig(**SMALL, memory_map="never").load(0)
        assert not folder.exists()
        first = SyntheticConfig(**SMALL, memory_map="always").load(0)
        monkeypatch.setattr(SyntheticConfig, "_graph", None)
        for source in (first, SyntheticConfig(**SMALL, memory_map="always").load(0)):
            assert isinstance(source.features, np.memmap)
            assert np.array_equal(source.features, held.features)
            assert torch.equal(source.labels, held.labels)
            assert pairs(source.graph) == pairs(held.graph)

    def test_large_features_are_cached_by_default(self, folder, monkeypatch):
        SyntheticConfig(**SMALL).load(0)
        assert not folder.exists()
        monkeypatch.setattr("dgl_rbm.data.arrays._MAPPED_FROM", 600 * 8 * 4)
        SyntheticConfig(**SMALL).load(0)
        assert len(list(folder.iterdir())) == 1

    def test_graph_options_change_the_folder_and_the_split_does_not(self, folder):
        for change in ({}, {"split": "0.5/0.2/0.3"}, {"graph_seed": 1}, {"homophily": 0.7}):
            SyntheticConfig(**SMALL | change, memory_map="always").load(0)
        assert len(list(folder.iterdir())) == 3

    @pytest.mark.parametrize("name", ["features.npy", "sources.npy", "key.json"])
    @pytest.mark.parametrize("damage", ["cut", "gone"])
    def test_damaged_files_are_replaced(self, folder, name, damage):
        held = SyntheticConfig(**SMALL, memory_map="always").load(0)
        before = np.array(held.features)
        path = next(folder.iterdir()) / name
        if damage == "gone":
            path.unlink()
        else:
            path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        again = SyntheticConfig(**SMALL, memory_map="always").load(0)
        assert np.array_equal(again.features, before)
        assert [path.name for path in folder.iterdir()] == [next(folder.iterdir()).name], "litter was left"

    def test_features_are_written_as_they_are_drawn(self, folder, monkeypatch):
        monkeypatch.setattr(synthetic, "_ROWS_AT_ONCE", 100)
        sizes, blocks = [], SyntheticConfig._blocks

        def watched(*arguments):
            for block in blocks(*arguments):
                sizes.extend(path.stat().st_size for path in folder.rglob("features.npy"))
                yield block

        monkeypatch.setattr(SyntheticConfig, "_blocks", watched)
        source = SyntheticConfig(**SMALL, memory_map="always").load(0)
        assert len(sizes) == 6
        assert (np.diff(sizes) >= 100 * 8 * 4).all()
        assert np.array_equal(source.features, SyntheticConfig(**SMALL, memory_map="never").load(0).features)

    def test_a_full_disk_is_explained(self, monkeypatch):
        def into_a_full_disk(folder, key, names, make):
            folder.mkdir(parents=True)
            (folder / "features.npy").symlink_to("/dev/full")
            make(folder)

        monkeypatch.setattr(synthetic, "kept_arrays", into_a_full_disk)
        with pytest.raises(DatasetNotFoundError, match="No space left on device"):
            SyntheticConfig(**SMALL, memory_map="always").load(0)

    def test_an_unwritable_folder_is_explained(self, folder):
        folder.parent.mkdir(parents=True)
        folder.write_text("in the way")
        with pytest.raises(DatasetNotFoundError, match="cannot be kept"):
            SyntheticConfig(**SMALL, memory_map="always").load(0)


def test_names_of_the_package_are_loaded_lazily():
    import dgl_rbm.data as data

    assert data.load_task is load_task
    assert set(data.__all__) <= set(dir(data))
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        data.nothing  # noqa: B018

"""Splits: reading them, drawing them class by class, and choosing the unseen nodes."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dgl_rbm.data.splits import Fractions, PerClass, choose_unseen, draw_split, parse_split
from dgl_rbm.errors import ConfigError, DataError


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("20/30", PerClass(20, 30)),
        (" 1 / 2 ", PerClass(1, 2)),
        ("0.6/0.2/0.2", Fractions(0.6, 0.2)),
        ("0.1/0.2/0.7", Fractions(0.1, 0.2)),
    ],
)
def test_parse(text, expected):
    assert parse_split(text) == expected


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("public", "'public' is not a split"),
        ("", "'' is not a split"),
        (f"{10**20}/30", "is not a split"),
        ("20/" + "9" * 5000, "is not a split"),
        ("0.6/0.4", "it has 2 parts"),
        ("1/2/3/4", "it has 4 parts"),
        ("0/30", "leaves a part empty"),
        ("20/0", "leaves a part empty"),
        ("0.6/0.2/0.3", "add up to 1.1, not 1"),
        ("0.8/0.2/0", "not between 0 and 1"),
        ("-0.2/0.6/0.6", "not between 0 and 1"),
        ("nan/0.5/0.5", "not between 0 and 1"),
        ("20/30/50", "not between 0 and 1"),
    ],
)
def test_parse_explains_errors(text, reason):
    with pytest.raises(ConfigError, match=reason) as caught:
        parse_split(text)
    assert "'20/30'" in str(caught.value)


labels_lists = st.lists(st.integers(-1, 4), min_size=1, max_size=60)


@given(labels_lists, st.sampled_from(["0.6/0.2/0.2", "0.1/0.1/0.8", "0.34/0.33/0.33"]), st.integers(0, 5))
def test_fractions_partition_the_labelled_nodes_of_each_class(values, text, seed):
    labels = torch.tensor(values)
    nodes = draw_split(text, labels, range(5), seed)
    parts = [nodes.train_idx, nodes.val_idx, nodes.test_idx]
    assert sorted(torch.cat(parts).tolist()) == [node for node, label in enumerate(values) if label >= 0]
    for part in parts:
        assert part.dtype == torch.int64
        assert part.tolist() == sorted(part.tolist())
    train_share, val_share, _ = map(float, text.split("/"))
    for label in range(5):
        size = values.count(label)
        trained = sum(values[node] == label for node in nodes.train_idx.tolist())
        validated = sum(values[node] == label for node in nodes.val_idx.tolist())
        assert (trained >= 1) == (size >= 1)
        assert abs(trained - train_share * size) <= 1
        assert abs(validated - val_share * size) <= 1.5


@given(st.permutations([0] * 6 + [1] * 7 + [2] * 9 + [-1] * 4), st.integers(0, 5))
def test_counts_per_class(values, seed):
    nodes = draw_split("2/3", torch.tensor(values), range(3), seed)
    picked = [[values[node] for node in part.tolist()] for part in (nodes.train_idx, nodes.val_idx, nodes.test_idx)]
    assert sorted(picked[0]) == [0, 0, 1, 1, 2, 2]
    assert sorted(picked[1]) == [0] * 3 + [1] * 3 + [2] * 3
    assert sorted(picked[2]) == [0] * 1 + [1] * 2 + [2] * 4
    assert len({*nodes.train_idx.tolist(), *nodes.val_idx.tolist(), *nodes.test_idx.tolist()}) == 22


def test_the_split_depends_on_the_seed():
    labels = torch.arange(200) % 4
    first, again, other = (draw_split("5/5", labels, range(4), seed) for seed in (1, 1, 2))
    assert first.train_idx.equal(again.train_idx)
    assert first.val_idx.equal(again.val_idx)
    assert not first.train_idx.equal(other.train_idx)


def test_drawing_does_not_use_the_global_generator():
    before = torch.get_rng_state()
    draw_split("0.6/0.2/0.2", torch.arange(50) % 4, range(4), 0)
    choose_unseen(torch.arange(50), 0.5, 0)
    assert torch.get_rng_state().equal(before)


def test_every_node_can_come_first():
    labels = torch.zeros(6, dtype=torch.int64)
    first = {int(draw_split("1/1", labels, range(1), seed).train_idx) for seed in range(100)}
    assert first == set(range(6))


def test_all_small_classes_are_named():
    labels = torch.tensor([0] * 60 + [1] * 50 + [3] * 12)
    with pytest.raises(DataError) as caught:
        draw_split("20/30", labels, range(4), 0)
    message = str(caught.value)
    assert "class 1 has 50 labelled nodes, 20/30 needs more than 50" in message
    assert "class 2 has 0 labelled nodes" in message
    assert "class 3 has 12 labelled nodes" in message
    assert "class 0" not in message


def test_many_small_classes_are_counted():
    with pytest.raises(DataError, match="15 more classes are too small"):
        draw_split("20/30", torch.arange(25), range(25), 0)


@given(st.integers(1, 200), st.floats(0.01, 1), st.integers(0, 3))
def test_unseen_nodes_are_a_sample_of_the_test_nodes(count, fraction, seed):
    test_idx = torch.arange(count) * 3 + 1
    if round(count * fraction) == 0:
        with pytest.raises(ConfigError, match="hides none"):
            choose_unseen(test_idx, fraction, seed)
        return
    unseen = choose_unseen(test_idx, fraction, seed)
    assert len(unseen) == round(count * fraction)
    assert set(unseen.tolist()) <= set(test_idx.tolist())
    assert unseen.tolist() == sorted(set(unseen.tolist()))
    assert unseen.equal(choose_unseen(test_idx, fraction, seed))


@pytest.mark.parametrize("fraction", [0, -0.1, 1.1, float("nan")])
def test_unseen_fraction_is_checked(fraction):
    with pytest.raises(ConfigError, match="above 0 and up to 1"):
        choose_unseen(torch.arange(10), fraction, 0)

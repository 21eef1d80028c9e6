"""Validation nodes that are hidden to judge by."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dgl_rbm.data.dgl_compat import dgl
from dgl_rbm.data.hold_out import hide_validation
from dgl_rbm.data.make import make_task
from dgl_rbm.data.task import NodeTask, Setting
from dgl_rbm.errors import ConfigError

NODES = 20


def task_with(validation: int, setting: Setting = "inductive") -> NodeTask:
    """Return a ring whose test nodes are 12 to 19, half of them unseen in the inductive setting."""
    ring = torch.arange(NODES)
    return make_task(
        dgl.graph((ring, (ring + 1) % NODES)),
        features=torch.randn(NODES, 3, generator=torch.Generator().manual_seed(0)),
        labels=ring % 2,
        train=[0, 1],
        val=list(range(2, 2 + validation)),
        test=list(range(12, NODES)),
        setting=setting,
        unseen_fraction=0.5 if setting == "inductive" else None,
    )


@pytest.mark.parametrize("setting", ["transductive", "inductive"])
@given(validation=st.integers(2, 10), share=st.floats(0.01, 0.99), seed=st.integers(0, 5))
def test_hidden_validation_nodes_become_the_test_nodes(
    setting: Setting, validation: int, share: float, seed: int
) -> None:
    task = task_with(validation, setting)
    held = hide_validation(task, share, seed)
    both = torch.cat([held.val_idx, held.test_idx])
    assert torch.equal(both.sort().values, task.val_idx)
    assert len(held.val_idx) >= 1
    assert 1 <= len(held.test_idx) <= max(1, round(share * validation))
    assert torch.equal(held.train_idx, task.train_idx)
    hidden = set(held.unseen_idx.tolist()) - set(task.unseen_idx.tolist())
    assert hidden == (set(held.test_idx.tolist()) if setting == "inductive" else set())
    # The labels of the task's own test nodes cannot be had any more.
    observed = held.observed()
    known = observed.node_ids[observed.labels >= 0].tolist()
    assert sorted(known) == torch.cat([held.train_idx, held.val_idx]).sort().values.tolist()
    assert torch.equal(held.test_labels(), held.test_idx % 2)
    again = hide_validation(task, share, seed)
    assert torch.equal(held.test_idx, again.test_idx)


def test_seeds_draw_different_nodes() -> None:
    task = task_with(10)
    drawn = {tuple(hide_validation(task, 0.5, seed).test_idx.tolist()) for seed in range(10)}
    assert len(drawn) > 1


@pytest.mark.parametrize("share", [0.0, 1.0, -0.5, float("nan")])
def test_an_invalid_share_is_refused(share: float) -> None:
    with pytest.raises(ConfigError, match="between 0 and 1"):
        hide_validation(task_with(4), share, 0)


def test_a_single_validation_node_cannot_be_hidden() -> None:
    with pytest.raises(ConfigError, match="needs at least 2 of them; this task has 1"):
        hide_validation(task_with(1), 0.5, 0)

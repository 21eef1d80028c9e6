"""Hides a part of the validation nodes, to judge by it what unseen nodes would get."""

from __future__ import annotations

from dataclasses import replace

import torch

from dgl_rbm.data.task import NodeTask
from dgl_rbm.errors import ConfigError
from dgl_rbm.runtime.seeding import derive_seed

__all__ = ["hide_validation"]


def hide_validation(task: NodeTask, share: float, seed: int) -> NodeTask:
    """Return a task whose test nodes are a part of this one's validation nodes; its own test labels are out of reach.

    Validation nodes are observed: teacher and encoders see them with their edges, and epochs are chosen on them. So
    they do not quite show what a node that nobody has seen will get. Here a part of them is hidden as the inductive
    setting hides test nodes, with their edges, from all training, beside those that are hidden already; in the
    transductive setting they are observed nodes without a label.

    Parameters
    ----------
    task : NodeTask
        At least two validation nodes.
    share : float
        How many of the validation nodes, in ``(0, 1)``; one at least is hidden and one at least is left.
    seed : int
        Draws them.

    Raises
    ------
    ConfigError
        Where the share is not in ``(0, 1)``, or there are fewer than two validation nodes.
    """
    if not 0 < share < 1:
        raise ConfigError(f"The share of validation nodes to hide is {share}; expected a number between 0 and 1.")
    total = len(task.val_idx)
    if total < 2:
        raise ConfigError(f"There is {total} validation node, of which none can be hidden.", hint="Hide none.")
    count = min(max(1, round(share * total)), total - 1)
    order = torch.randperm(total, generator=torch.Generator().manual_seed(derive_seed(seed, "hidden validation")))
    hidden = task.val_idx[order[:count]].sort().values
    unseen = task.unseen_idx
    if task.setting == "inductive":
        unseen = torch.cat([unseen, hidden]).sort().values
    return replace(task, val_idx=task.val_idx[order[count:]].sort().values, test_idx=hidden, unseen_idx=unseen)

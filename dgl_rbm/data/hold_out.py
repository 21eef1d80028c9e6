"""Hold-out of validation nodes, to estimate the accuracy on unseen nodes."""

from __future__ import annotations

from dataclasses import replace

import torch

from dgl_rbm.data.task import NodeTask
from dgl_rbm.errors import ConfigError
from dgl_rbm.runtime.seeding import derive_seed

__all__ = ["hide_validation"]


def hide_validation(task: NodeTask, share: float, seed: int) -> NodeTask:
    """Return a task whose test nodes are a share of the validation nodes of `task`, without its test labels.

    Accuracy on validation nodes is an optimistic estimate for unseen nodes: teacher and encoders read their features
    and edges, and epochs are selected on them. In the inductive setting, the held-out nodes are therefore hidden from
    all training with their edges, in addition to the unseen nodes of `task`. In the transductive setting they are
    observed nodes without a label.

    Parameters
    ----------
    task : NodeTask
        Has at least two validation nodes.
    share : float
        Share of the validation nodes to hide, in ``(0, 1)``; at least one is hidden and at least one is kept.
    seed : int
        Seed of the draw.

    Raises
    ------
    ConfigError
        If the share is not in ``(0, 1)``, or there are fewer than two validation nodes.
    """
    if not 0 < share < 1:
        raise ConfigError(f"The share of validation nodes to hide is {share}; expected a number between 0 and 1.")
    total = len(task.val_idx)
    if total < 2:
        raise ConfigError(
            f"Hiding validation nodes needs at least 2 of them; this task has {total}.", hint="Hide none."
        )
    count = min(max(1, round(share * total)), total - 1)
    order = torch.randperm(total, generator=torch.Generator().manual_seed(derive_seed(seed, "hidden validation")))
    hidden = task.val_idx[order[:count]].sort().values
    unseen = task.unseen_idx
    if task.setting == "inductive":
        unseen = torch.cat([unseen, hidden]).sort().values
    return replace(task, val_idx=task.val_idx[order[count:]].sort().values, test_idx=hidden, unseen_idx=unseen)

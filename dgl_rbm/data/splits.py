"""Stratified random splits of the labelled nodes, and the choice of unseen nodes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from dgl_rbm.errors import ConfigError, DataError, raise_problems, shown
from dgl_rbm.runtime.seeding import derive_seed

__all__ = ["Fractions", "NodeSplit", "PerClass", "SavedSplit", "choose_unseen", "draw_split", "parse_split"]

_MOST_DIGITS = 15
_HINT = (
    "Write '0.6/0.2/0.2' (fractions of training, validation and test nodes) or '20/30' (training and validation "
    "nodes per class, the rest for testing)."
)


@dataclass(frozen=True)
class Fractions:
    """Split by shares of the labelled nodes of each class; the rest is for testing."""

    train: float
    val: float


@dataclass(frozen=True)
class PerClass:
    """Split by numbers of nodes of each class; the rest is for testing."""

    train: int
    val: int


@dataclass(frozen=True)
class NodeSplit:
    """Training, validation and test node ids, int64, ascending, disjoint."""

    train_idx: Tensor
    val_idx: Tensor
    test_idx: Tensor


@dataclass(frozen=True)
class SavedSplit:
    """Split of a saved run, and the test nodes that it hid from training, int64, ascending."""

    nodes: NodeSplit
    unseen_idx: Tensor


def parse_split(text: str) -> Fractions | PerClass:
    """Parse a split such as ``"0.6/0.2/0.2"`` or ``"20/30"``.

    Raises
    ------
    ConfigError
        If the text is neither, a number is not above 0, or the fractions do not add up to 1.
    """
    parts = [part.strip() for part in text.split("/")]
    # Numbers of more digits do not fit into 64 bits.
    if len(parts) == 2 and all(part.isdecimal() and len(part) <= _MOST_DIGITS for part in parts):
        counts = PerClass(*map(int, parts))
        if min(counts.train, counts.val) < 1:
            raise ConfigError(f"The split '{text}' leaves a part empty: both numbers must be above 0.", hint=_HINT)
        return counts
    try:
        shares = [float(part) for part in parts]
    except ValueError:
        raise ConfigError(f"{shown(text)} is not a split.", hint=_HINT) from None
    if len(shares) != 3:
        raise ConfigError(f"{shown(text)} is not a split: it has {len(shares)} parts.", hint=_HINT)
    if not all(0 < share < 1 for share in shares):
        raise ConfigError(f"The split '{text}' has a fraction that is not between 0 and 1.", hint=_HINT)
    if abs(sum(shares) - 1) > 1e-6:
        raise ConfigError(f"The fractions of the split '{text}' add up to {sum(shares):g}, not 1.", hint=_HINT)
    return Fractions(shares[0], shares[1])


def draw_split(
    text: str, labels: Tensor, classes: Sequence[int | str], seed: int, *, allow_missing_classes: bool = False
) -> NodeSplit:
    """Draw a random split, stratified by class.

    Parameters
    ----------
    text : str
        See `parse_split`.
    labels : Tensor
        int64 ``[N]``; nodes of label −1 are in no part.
    classes : sequence of int or str
        Names of the class numbers, length C.
    seed : int
        The run's seed.
    allow_missing_classes : bool
        Whether a class may have no labelled nodes.

    Raises
    ------
    ConfigError
        If `text` is not a split.
    DataError
        If a class has too few labelled nodes.
    """
    split = parse_split(text)
    generator = torch.Generator().manual_seed(derive_seed(seed, "split"))
    labelled = (labels >= 0).nonzero().squeeze(1)
    shuffled = labelled[torch.randperm(len(labelled), generator=generator)]
    nodes = shuffled[torch.argsort(labels[shuffled], stable=True)]
    sizes = torch.bincount(labels[nodes], minlength=len(classes))
    if isinstance(split, PerClass):
        _check_class_sizes(text, sizes, split.train + split.val, classes, allow_missing_classes)
        train_end = torch.full_like(sizes, split.train)
        val_end = train_end + split.val
    else:
        # At least one: the only node of a class is for training.
        train_end = (sizes * split.train).round().long().clamp(min=1)
        val_end = (sizes * (split.train + split.val)).round().long()
    rank = torch.arange(len(nodes)) - (sizes.cumsum(0) - sizes)[labels[nodes]]
    in_train = rank < train_end[labels[nodes]]
    in_val = ~in_train & (rank < val_end[labels[nodes]])
    parts = (nodes[part].sort().values for part in (in_train, in_val, ~in_train & ~in_val))
    return NodeSplit(*parts)


def _check_class_sizes(
    text: str, sizes: Tensor, needed: int, classes: Sequence[int | str], allow_missing: bool
) -> None:
    small = ((sizes <= needed) & ((sizes > 0) | (not allow_missing))).nonzero().squeeze(1)
    problems = [
        f"class {classes[number]} has {count} labelled nodes, {text} needs more than {needed}."
        for number, count in zip(small[:10].tolist(), sizes[small[:10]].tolist(), strict=True)
    ]
    if len(small) > 10:
        problems.append(f"{len(small) - 10} more classes are too small.")
    raise_problems(
        problems,
        DataError,
        f"The split '{text}'",
        hint="Use smaller numbers, or fractions such as '0.6/0.2/0.2'; `allow_missing_classes=True` accepts classes "
        "without labelled nodes.",
    )


def choose_unseen(test_idx: Tensor, fraction: float, seed: int) -> Tensor:
    """Draw the test nodes that the inductive setting hides from training.

    Returns
    -------
    Tensor
        ``round(fraction * len(test_idx))`` of `test_idx`, ascending.

    Raises
    ------
    ConfigError
        If the fraction is not in (0, 1], or so small that no node is hidden.
    """
    if not 0 < fraction <= 1:
        raise ConfigError(f"unseen_fraction is {fraction}; expected a number above 0 and up to 1.")
    count = round(fraction * len(test_idx))
    if count == 0:
        raise ConfigError(
            f"unseen_fraction {fraction} of {len(test_idx)} test nodes hides none of them.",
            hint="Raise it, or use the transductive setting.",
        )
    generator = torch.Generator().manual_seed(derive_seed(seed, "unseen"))
    return test_idx[torch.randperm(len(test_idx), generator=generator)[:count]].sort().values

"""Folds of the training nodes, so that a node's own label never reaches its encoding."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from dgl_rbm.encoders.base import EncoderOutput
from dgl_rbm.runtime.context import RunContext

__all__ = ["encode_by_folds"]


def encode_by_folds(
    train_idx: Tensor, folds: int, encode: Callable[[Tensor], EncoderOutput], context: RunContext
) -> EncoderOutput:
    """Encode inside the stage ``"encoder"``, each fold of the training nodes from the labels of the other folds alone.

    All other nodes and the stored vectors use the labels of all training nodes. The folds do not depend on the labels:
    stratified folds would leak a node's own label through the fold assignment.

    Parameters
    ----------
    train_idx : Tensor
        Training nodes, int64.
    folds : int
        Number of folds, at most one per training node.
    encode : callable
        Returns the encodings of all nodes from the labels of those given, int64.
    context : RunContext
        Reports the progress.
    """
    folds = min(folds, len(train_idx))
    with context.stage("encoder", 1 + folds, unit="propagations") as stage:
        output = encode(train_idx)
        encodings = output.encodings.clone()
        stage.step(1)
        order = train_idx[torch.randperm(len(train_idx))]
        for fold in range(folds):
            held_out = order[fold::folds]
            others = order[torch.arange(len(order)) % folds != fold]
            encodings[held_out] = encode(others).encodings[held_out]
            stage.step(2 + fold)
    return EncoderOutput(vectors=output.vectors, encodings=encodings)

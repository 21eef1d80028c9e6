"""Training options that all trained teachers share."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator

from dgl_rbm.precision import Precision
from dgl_rbm.tasks.multiclass import ClassWeight, SelectBy
from dgl_rbm.teachers.sampling import SamplingDevice
from dgl_rbm.training.optimizer import OptimizerConfig

__all__ = ["TeacherTraining"]


class TeacherTraining(OptimizerConfig):
    """Training options of a teacher."""

    epochs: int = Field(default=500, ge=1, description="Maximum number of epochs.")
    patience: int | None = Field(
        default=None,
        ge=1,
        description="Stop after this many epochs without a better validation score. null: 100 steps, and at least 20 "
        "epochs.",
    )
    select_by: SelectBy = Field(
        default="loss",
        description="Validation score that selects the epoch to keep: 'accuracy', 'balanced_accuracy', 'macro_f1', "
        "'loss', or 'both', the accuracy minus 0.3 times the loss in nats. The accuracy may "
        "peak in an early epoch whose probabilities are still nearly uniform; a student learns little from such soft "
        "labels.",
    )
    class_weight: ClassWeight | None = Field(
        default=None,
        description="Weight of each class in the loss on training labels: 'balanced' for the inverse of its number of "
        "training nodes, null for equal weights of all nodes.",
    )
    eval_every: int = Field(default=1, ge=1, description="Epochs between two validations.")
    sampler: Literal["auto", "full", "neighbor"] = Field(
        default="auto",
        description="Train on the 'full' graph, on neighbourhoods sampled by 'neighbor', or, with 'auto', on the full "
        "graph if one step is estimated to need less than 4 GiB on a CPU or half of a GPU's memory.",
    )
    fanouts: list[int] | None = Field(
        default=None,
        min_length=1,
        description="Neighbours sampled per node and layer, the first layer's first; -1 for all; null for 10 each.",
    )
    batch_size: int = Field(default=1024, ge=1, description="Nodes per step with sampled neighbourhoods.")
    num_workers: int = Field(default=0, ge=0, le=1024, description="Worker processes for sampling on a CPU.")
    sampling_device: SamplingDevice = Field(
        default="auto",
        description="Where neighbours are sampled: 'cpu', 'gpu', 'uva' (by the GPU from host memory), or 'auto' for "
        "the GPU if DGL can use it and the graph fits.",
    )
    precision: Precision = Field(
        default="float32",
        description="Precision of the matrix products in training steps: 'float32', or 'bf16' for bfloat16 under "
        "autocast, on GPUs of compute capability 8.0 or later. Everything else, predictions included, is float32.",
    )

    @field_validator("fanouts")
    @classmethod
    def _neighbors_or_all(cls, fanouts: list[int] | None) -> list[int] | None:
        if any(fanout < 1 and fanout != -1 for fanout in fanouts or ()):
            raise ValueError("each must be at least 1, or -1 for all neighbours")
        return fanouts

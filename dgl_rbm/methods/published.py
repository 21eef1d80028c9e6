"""Published settings by dataset, as options of this package.

``published_hyperparameters.csv`` contains the hyperparameters of the published code of the RbM paper (Transactions on
Machine Learning Research 10/2024): one row per dataset, setting, teacher and student family (``mlp``, ``moe`` or
``rbm``). Cora, Citeseer and PubMed have 2,485, 2,110 and 19,717 nodes there, so they are the largest connected
components in the CPF files, called ``cpf-cora`` and so on here. The same settings apply to the Planetoid graphs of
these names, which contain the nodes outside the largest component and have other splits.
"""

from __future__ import annotations

import csv
from functools import cache
from importlib.resources import files
from typing import Any

from pydantic import Field

from dgl_rbm.config import StrictConfig, validated

__all__ = [
    "PublishedSettings",
    "encoder_options",
    "find_settings",
    "published_name",
    "published_settings",
    "regularizer_options",
]

_FILE = "published_hyperparameters.csv"

# Options that all rows have in common, stated so that no default of the package changes them.
_TRAINING = {"optimizer": "adam", "warmup_steps": 0, "patience": 50, "class_weight": None}
_TEACHER_EPOCHS = 500
_MIXTURE = {"shared_expert": False, "expert_rank": None, "soft_routing_epochs": 0, "expert_dropout": 0.0}
_RBM = {
    # Equation 14; the published code keeps the momentum constant.
    "annealing": 0.05,
    "annealing_epochs": 200,
    "output_scale": True,
    "routing": "cosine",
    "gate_scale": 1.0,
    "learn_gate_scale": False,
    "router_inputs": "all",
    "expert_inputs": "all",
}
# Of these graphs the published code reads row-normalised features; of the others those of the files.
_NORMALIZED = ("cora", "citeseer", "pubmed")

# Columns with the name of the student's option; empty for students without the option.
_MIXTURE_OPTIONS = {
    "num_experts",
    "top_k",
    "memory_momentum",
    "commitment_weight",
    "self_similarity_weight",
    "load_balance_weight",
    "input_attention",
}


class PublishedSettings(StrictConfig):
    """Row of the table of published settings; empty cells are None."""

    dataset: str = Field(description="Name in the paper.")
    setting: str = Field(description="transductive or inductive.")
    teacher: str = Field(description="Kind of the teacher.")
    student: str = Field(description="Student family: mlp, moe or rbm.")
    teacher_layers: int = Field(description="Number of layers of the teacher.")
    teacher_hidden: int = Field(description="Hidden width of the teacher.")
    teacher_dropout: float = Field(description="Dropout of the teacher.")
    teacher_norm: str = Field(description="Normalisation of the teacher's hidden layers.")
    teacher_lr: float = Field(description="Learning rate of the teacher.")
    teacher_weight_decay: float = Field(description="Weight decay of the teacher.")
    student_layers: int = Field(description="Number of layers of the student.")
    student_hidden: int = Field(description="Hidden width of the student.")
    student_dropout: float = Field(description="Dropout of the student.")
    student_norm: str = Field(description="Normalisation of the student's hidden layers.")
    num_experts: int | None = Field(description="Number of experts per layer of a mixture.")
    top_k: int | None = Field(description="Number of active experts per row.")
    memory_momentum: float | None = Field(description="Initial memory momentum λ0 of RbM.")
    commitment_weight: float | None = Field(description="Weight of the commitment loss (eq. 6).")
    self_similarity_weight: float | None = Field(description="Weight of the self-similarity loss (eq. 7).")
    load_balance_weight: float | None = Field(description="Weight of the load-balance loss (eq. 8).")
    input_attention: bool | None = Field(description="Whether RbM's experts scale their inputs.")
    student_lr: float = Field(description="Learning rate of the student.")
    student_weight_decay: float = Field(description="Weight decay of the student.")
    student_max_epochs: int = Field(description="Maximum number of epochs of the student.")
    pretrain_epochs: int = Field(description="Pre-training epochs of a mixture.")
    krd_warmup_epochs: int = Field(description="Epochs before the first update of KRD's power.")
    krd_momentum: float = Field(description="Momentum of KRD's power.")
    krd_bins: int = Field(description="Bins of KRD's histogram of reliabilities.")
    walk_length: int = Field(description="Nodes per DeepWalk walk.")
    walks_per_node: int = Field(description="DeepWalk walks per node.")
    window: int = Field(description="Context window of DeepWalk.")
    walk_epochs: int = Field(description="Skip-gram epochs over the walks.")
    encoding_dim: int = Field(description="Dimension of the DeepWalk vectors.")
    hard_label_weight: float = Field(description="Weight ν of the loss on labels (eq. 9).")
    temperature: float = Field(description="Temperature τ of the loss on the teacher's targets (eq. 9).")
    adversarial_eps: float = Field(description="Radius ε of NOSMOG's adversarial perturbation.")
    adversarial_weight: float = Field(description="Weight of NOSMOG's adversarial loss.")
    adversarial_steps: int = Field(description="Gradient steps of NOSMOG's adversarial perturbation.")
    similarity_weight: float = Field(description="Weight of NOSMOG's similarity loss.")

    def teacher_values(self) -> dict[str, Any]:
        """Return the teacher's options."""
        return {
            "num_layers": self.teacher_layers,
            "hidden_dim": self.teacher_hidden,
            "dropout": self.teacher_dropout,
            "norm": self.teacher_norm,
            "training": {
                **_TRAINING,
                # The published code keeps the epoch of the best accuracy. On Cora that may be an early one, whose
                # probabilities are nearly uniform, and students learn little from them.
                "select_by": "loss",
                "lr": self.teacher_lr,
                "weight_decay": self.teacher_weight_decay,
                "epochs": _TEACHER_EPOCHS,
            },
        }

    def dataset_values(self) -> dict[str, Any]:
        """Return the options of the graph."""
        return {"normalize": "row" if self.dataset in _NORMALIZED else "none", "rescale": False}

    def student_values(self) -> dict[str, Any]:
        """Return the student's options, for mixtures including those of experts and routing."""
        values: dict[str, Any] = {
            "num_layers": self.student_layers,
            "hidden_dim": self.student_hidden,
            "dropout": self.student_dropout,
            "norm": self.student_norm,
        }
        if self.num_experts is not None:
            values |= {"pretrain_epochs": self.pretrain_epochs, **_MIXTURE}
        if self.student == "rbm":
            values |= _RBM
        return values | self.model_dump(include=_MIXTURE_OPTIONS, exclude_none=True)

    def training_values(self) -> dict[str, Any]:
        """Return the options of the student's training."""
        return {
            **_TRAINING,
            "select_by": "accuracy",
            "lr": self.student_lr,
            "weight_decay": self.student_weight_decay,
            "epochs": self.student_max_epochs,
            "schedule": "constant",
            # The published code neither averages weights over steps nor drops inputs.
            "averaging": 0.0,
            "input_dropout": 0.0,
        }

    def objective_values(self) -> dict[str, Any]:
        """Return ν and τ of the losses on labels and on the teacher's targets."""
        return {"hard_label_weight": self.hard_label_weight, "temperature": self.temperature}

    def similarity_values(self) -> dict[str, Any]:
        """Return the options of NOSMOG's similarity loss."""
        return {"weight": self.similarity_weight, "rows": 512, "normalize": True}

    def adversarial_values(self) -> dict[str, Any]:
        """Return the options of NOSMOG's adversarial loss."""
        return {
            "weight": self.adversarial_weight,
            "eps": self.adversarial_eps,
            "steps": self.adversarial_steps,
            "rows": 256,
        }

    def krd_values(self) -> dict[str, Any]:
        """Return the options of the regularizer ``krd``."""
        return {
            "warmup_epochs": self.krd_warmup_epochs,
            "momentum": self.krd_momentum,
            "bins": self.krd_bins,
            "initial_power": 1.0,
            "noise_std": 1.0,
            "noise_samples": 10,
            "estimator": "expected",
            "weight": 1.0,
        }

    def deepwalk_values(self) -> dict[str, Any]:
        """Return the options of the encoder ``deepwalk``; known nodes keep their own vectors, as published."""
        return {
            "dim": self.encoding_dim,
            "walk_length": self.walk_length,
            "walks_per_node": self.walks_per_node,
            "window": self.window,
            "epochs": self.walk_epochs,
            "negative": 5,
            "consistent": False,
            "standardize": True,
            "weight": 0.3,
        }


def encoder_options(settings: PublishedSettings, kind: str) -> dict[str, Any]:
    """Return the published options of an encoder; none for encoders that the paper does not use."""
    return settings.deepwalk_values() if kind == "deepwalk" else {}


def regularizer_options(settings: PublishedSettings, kind: str) -> dict[str, Any]:
    """Return the published options of a regularizer; none for regularizers that the paper does not use."""
    published = {
        "krd": settings.krd_values,
        "similarity": settings.similarity_values,
        "adversarial": settings.adversarial_values,
    }
    return published[kind]() if kind in published else {}


@cache
def published_settings() -> tuple[PublishedSettings, ...]:
    """Return all rows of the table."""
    text = files(__package__).joinpath(_FILE).read_text(encoding="utf-8")
    rows = csv.DictReader(text.splitlines())
    return tuple(
        validated(PublishedSettings, {name: value or None for name, value in row.items()}, where=f"{_FILE} line {line}")
        for line, row in enumerate(rows, 2)
    )


def published_name(dataset: str) -> str:
    """Return the paper's name of a dataset: ``"cpf-cora"`` is its ``"cora"``."""
    return dataset.removeprefix("cpf-")


def find_settings(dataset: str | None, setting: str, teacher: str, student: str) -> PublishedSettings | None:
    """Return the published settings, or None if the table has no such row.

    Parameters
    ----------
    dataset : str or None
        Name in this package, such as ``"cpf-cora"``, or in the paper.
    setting : str
        ``"transductive"`` or ``"inductive"``.
    teacher : str
        Kind of the teacher.
    student : str
        ``"mlp"``, ``"moe"`` or ``"rbm"``.
    """
    if dataset is None:
        return None
    return _by_key().get((published_name(dataset), setting, teacher, student))


@cache
def _by_key() -> dict[tuple[str, ...], PublishedSettings]:
    return {(row.dataset, row.setting, row.teacher, row.student): row for row in published_settings()}

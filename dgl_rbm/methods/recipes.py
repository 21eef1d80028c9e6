"""The published settings of each dataset, as options of this package.

``published_hyperparameters.csv`` holds what the published code of the RbM paper (Transactions on Machine Learning
Research 10/2024) is run with: one row for each dataset, setting, teacher and family of students, ``mlp``, ``moe``
and ``rbm``. Its Cora, Citeseer and PubMed have 2,485, 2,110 and 19,717 nodes, so they are the largest connected
components that the CPF files hold, named ``cpf-cora`` and so on here; the recipes also serve the Planetoid graphs of
the same names, which differ from them by the nodes outside of that component and by the split.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Any

from pydantic import Field

from dgl_rbm.config import StrictConfig, validated

__all__ = ["Recipe", "encoder_options", "find_recipe", "published_name", "recipes"]

_FILE = "published_hyperparameters.csv"


class Recipe(StrictConfig):
    """One row of the published settings; empty cells are None."""

    dataset: str = Field(description="Name in the paper.")
    setting: str = Field(description="transductive or inductive.")
    teacher: str = Field(description="Kind of the teacher.")
    student: str = Field(description="Family of the student: mlp, moe or rbm.")
    teacher_layers: int = Field(description="Layers of the teacher.")
    teacher_hidden: int = Field(description="Width of the teacher.")
    teacher_dropout: float = Field(description="Dropout of the teacher.")
    teacher_norm: str = Field(description="Normalisation of the teacher.")
    teacher_lr: float = Field(description="Learning rate of the teacher.")
    teacher_weight_decay: float = Field(description="L2 penalty of the teacher.")
    student_layers: int = Field(description="Layers of the student.")
    student_hidden: int = Field(description="Width of the student.")
    student_dropout: float = Field(description="Dropout of the student.")
    student_norm: str = Field(description="Normalisation of the student.")
    num_experts: int | None = Field(description="Experts of a mixture.")
    top_k: int | None = Field(description="Active experts of a mixture.")
    memory_momentum: float | None = Field(description="λ0 of RbM.")
    commitment_weight: float | None = Field(description="Weight of equation 6.")
    self_similarity_weight: float | None = Field(description="Weight of equation 7.")
    load_balance_weight: float | None = Field(description="Weight of equation 8.")
    input_attention: bool | None = Field(description="Whether RbM's experts scale their input.")
    student_lr: float = Field(description="Learning rate of the student.")
    student_weight_decay: float = Field(description="L2 penalty of the student.")
    student_max_epochs: int = Field(description="Most epochs of the student.")
    pretrain_epochs: int = Field(description="Epochs of a mixture's pre-training.")
    krd_warmup_epochs: int = Field(description="Epochs before KRD's power moves.")
    krd_momentum: float = Field(description="Momentum of KRD's power.")
    krd_bins: int = Field(description="Bins of KRD's histogram.")
    walk_length: int = Field(description="Nodes on a walk of DeepWalk.")
    walks_per_node: int = Field(description="Walks from each node.")
    window: int = Field(description="Window of DeepWalk.")
    walk_epochs: int = Field(description="Passes over the walks.")
    encoding_dim: int = Field(description="Columns of DeepWalk's vectors.")
    hard_label_weight: float = Field(description="ν of equation 9.")
    temperature: float = Field(description="τ of equation 9.")
    adversarial_eps: float = Field(description="Radius of NOSMOG's perturbation.")
    adversarial_weight: float = Field(description="Weight of NOSMOG's adversarial term.")
    adversarial_steps: int = Field(description="Gradient steps of NOSMOG's perturbation.")
    similarity_weight: float = Field(description="Weight of NOSMOG's similarity loss.")

    def teacher_values(self) -> dict[str, Any]:
        """Return the teacher's options."""
        return {
            "num_layers": self.teacher_layers,
            "hidden_dim": self.teacher_hidden,
            "dropout": self.teacher_dropout,
            "norm": self.teacher_norm,
            "training": {"lr": self.teacher_lr, "weight_decay": self.teacher_weight_decay},
        }

    def student_values(self) -> dict[str, Any]:
        """Return the student's options; those of mixtures where the row has them."""
        values: dict[str, Any] = {
            "num_layers": self.student_layers,
            "hidden_dim": self.student_hidden,
            "dropout": self.student_dropout,
            "norm": self.student_norm,
        }
        if self.num_experts is not None:
            values["pretrain_epochs"] = self.pretrain_epochs
        for name in (
            "num_experts",
            "top_k",
            "memory_momentum",
            "commitment_weight",
            "self_similarity_weight",
            "load_balance_weight",
            "input_attention",
        ):
            if getattr(self, name) is not None:
                values[name] = getattr(self, name)
        return values

    def training_values(self) -> dict[str, Any]:
        """Return how the student is trained."""
        return {
            "lr": self.student_lr,
            "weight_decay": self.student_weight_decay,
            "epochs": self.student_max_epochs,
            # The published code keeps the last weights, not an average of them.
            "averaging": 0.0,
        }

    def objective_values(self) -> dict[str, Any]:
        """Return the weights of the losses on labels and on the teacher's targets."""
        return {"hard_label_weight": self.hard_label_weight, "temperature": self.temperature}

    def similarity_values(self) -> dict[str, Any]:
        """Return the options of NOSMOG's similarity loss: cosines are compared, since products diverge."""
        return {"weight": self.similarity_weight}

    def adversarial_values(self) -> dict[str, Any]:
        """Return the options of NOSMOG's adversarial term."""
        return {"weight": self.adversarial_weight, "eps": self.adversarial_eps, "steps": self.adversarial_steps}

    def krd_values(self) -> dict[str, Any]:
        """Return the options of the regularizer ``krd``."""
        return {"warmup_epochs": self.krd_warmup_epochs, "momentum": self.krd_momentum, "bins": self.krd_bins}

    def deepwalk_values(self) -> dict[str, Any]:
        """Return the options of the encoder ``deepwalk``: known nodes have their own vector, as published."""
        return {
            "dim": self.encoding_dim,
            "walk_length": self.walk_length,
            "walks_per_node": self.walks_per_node,
            "window": self.window,
            "epochs": self.walk_epochs,
            "consistent": False,
        }


def encoder_options(recipe: Recipe, kind: str) -> dict[str, Any]:
    """Return what `recipe` says of an encoder of this kind; nothing of those that the paper does not use."""
    return recipe.deepwalk_values() if kind == "deepwalk" else {}


@cache
def recipes() -> tuple[Recipe, ...]:
    """Return every row."""
    text = files(__package__).joinpath(_FILE).read_text(encoding="utf-8")
    rows = csv.DictReader(text.splitlines())
    return tuple(
        validated(Recipe, {name: value or None for name, value in row.items()}, where=f"{_FILE} line {line}")
        for line, row in enumerate(rows, 2)
    )


def published_name(dataset: str) -> str:
    """Return the name that the paper has for one of this package's datasets; any other name as it is."""
    return dataset.removeprefix("cpf-")


def find_recipe(dataset: str | None, setting: str, teacher: str, student: str) -> Recipe | None:
    """Return the published settings, or None where the table has none for these.

    Parameters
    ----------
    dataset : str or None
        Name here, such as ``"cpf-cora"``, or in the paper.
    setting : str
        ``"transductive"`` or ``"inductive"``.
    teacher : str
        Kind of the teacher.
    student : str
        ``"mlp"``, ``"moe"`` or ``"rbm"``.
    """
    if dataset is None:
        return None
    wanted = (published_name(dataset), setting, teacher, student)
    found: Mapping[tuple[str, ...], Recipe] = _by_key()
    return found.get(wanted)


@cache
def _by_key() -> dict[tuple[str, ...], Recipe]:
    return {(recipe.dataset, recipe.setting, recipe.teacher, recipe.student): recipe for recipe in recipes()}

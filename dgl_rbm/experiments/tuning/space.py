"""Search spaces: for each option, by its dotted path, the values that it may take."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import Field, model_validator

from dgl_rbm.config import ComponentConfig, StrictConfig, read_yaml, validated
from dgl_rbm.errors import ConfigError, shown

__all__ = ["Choices", "Range", "Space", "as_space", "default_space", "read_space"]

Scalar = bool | int | float | str | None


class Choices(StrictConfig):
    """One of several values."""

    choices: list[Scalar] = Field(min_length=1, description="The values.")


class Range(StrictConfig):
    """A number between two; an integer if both are."""

    low: int | float = Field(description="Smallest value.")
    high: int | float = Field(description="Largest value.")
    log: bool = Field(default=False, description="Whether orders of magnitude are drawn alike.")

    @model_validator(mode="after")
    def _ordered(self) -> Range:
        if not self.low <= self.high:
            raise ValueError(f"low is {self.low}, above high, which is {self.high}")
        if self.log and self.low <= 0:
            raise ValueError(f"low is {self.low}; with log it must be above 0")
        return self

    @property
    def whole(self) -> bool:
        """Whether only whole numbers are drawn."""
        return isinstance(self.low, int) and isinstance(self.high, int)


Space = dict[str, Choices | Range]

_EXAMPLE = "Example: {student.num_experts: {low: 3, high: 8}, training.lr: [0.01, 0.001]}"

# The paper's appendix C: dropout, learning rate, experts, and the weights α of equation 6, β and γ of 7 and 8.
_ALL: Space = {
    "student.dropout": Choices(choices=[0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6]),
    "training.lr": Choices(choices=[0.01, 0.005, 0.001]),
}
_OF_STUDENT: dict[str, Space] = {
    "moe": {"student.load_balance_weight": Range(low=0.0, high=0.05)},
    "rbm": {
        "student.num_experts": Range(low=3, high=8),
        "student.commitment_weight": Range(low=0.0, high=0.1),
        "student.load_balance_weight": Range(low=0.0, high=0.05),
        "student.self_similarity_weight": Range(low=0.0, high=0.05),
        "student.memory_momentum": Choices(choices=[0.9, 0.99]),
        "student.routing": Choices(choices=["cosine", "euclidean"]),
        "student.learn_gate_scale": Choices(choices=[False, True]),
    },
}
# Beyond the paper.
_MORE: Space = {
    "training.averaging": Choices(choices=[0.0, 0.9, 0.98]),
    "objective.hard_label_weight": Range(low=0.0, high=0.6),
    "objective.temperature": Range(low=0.5, high=2.0, log=True),
}


def default_space(student: ComponentConfig) -> Space:
    """Return what is searched for a student: the space of the paper's appendix C, and a little more.

    Of a student that lacks some of the options, such as ``auto``, which chooses among several, these are left out.

    Raises
    ------
    ConfigError
        If the student has nothing to train.
    """
    if not getattr(student, "trains", True):
        raise ConfigError(
            f"There is no default search space for the student '{student.kind}', which has nothing to train.",
            hint="Pass a search space of your own, such as options of the encoder: encoder.0.alpha: [0.8, 0.9, 0.99]",
        )
    space = {**_ALL, **_OF_STUDENT.get(student.kind, {}), **_MORE}
    known = {f"student.{name}" for name in type(student).model_fields}
    return {name: values for name, values in space.items() if not name.startswith("student.") or name in known}


def read_space(path: Path) -> Space:
    """Read a search space from a YAML file.

    Each option's dotted path stands for a list of values, or for ``low`` and ``high``, with ``log: true`` if orders
    of magnitude are to be drawn alike.

    Raises
    ------
    ConfigError
        If there is no such file, or it contains anything else; names every wrong option.
    """
    if not path.exists():
        raise ConfigError(f"There is no search space '{path}'.", hint=_EXAMPLE)
    return as_space(read_yaml(path, "search space"), f"The search space '{path}'")


def as_space(values: Mapping[Any, Any], what: str = "The search space") -> Space:
    """Return a search space from plain values.

    Parameters
    ----------
    values : mapping
        Dotted path to a list of values, to ``low`` and ``high``, or to `Choices` or `Range`.
    what : str
        Subject of the errors.

    Raises
    ------
    ConfigError
        If `values` is empty or contains anything else; the message names every option that is wrong.
    """
    space: Space = {}
    problems = []
    for name, spec in values.items():
        try:
            if isinstance(spec, (Choices, Range)):
                space[str(name)] = spec
            elif isinstance(spec, list):
                space[str(name)] = validated(Choices, {"choices": spec}, where=str(name))
            elif isinstance(spec, Mapping):
                space[str(name)] = validated(Range, spec, where=str(name))
            else:
                problems.append(f"{name}: expected a list of values, or low and high; got {shown(spec)}")
        except ConfigError as error:
            problems.append(error.message)
    if not space and not problems:
        problems.append("it names no option")
    if problems:
        raise ConfigError(f"{what}:\n" + "\n".join(problems), hint=_EXAMPLE)
    return space

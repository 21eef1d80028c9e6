"""Several students to choose from: each is trained on the same table, and validation decides."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from pydantic import Field, SerializeAsAny, field_validator

from dgl_rbm.config import ComponentConfig
from dgl_rbm.errors import ConfigError
from dgl_rbm.registry import students

__all__ = ["AutoConfig"]


@students.register
class AutoConfig(ComponentConfig):
    """The candidate that does best on the validation nodes."""

    kind: Literal["auto"] = Field(default="auto", description="The best of several students on the validation nodes.")
    candidates: list[SerializeAsAny[ComponentConfig]] = Field(
        default=["mlp", "ensemble", "moe", "rbm"],
        min_length=1,
        validate_default=True,
        description="The students to train: names, or options with 'kind'. The one of the best validation accuracy is "
        "kept; of equal ones, the one of the lowest validation loss.",
    )

    @field_validator("candidates", mode="before")
    @classmethod
    def _resolved(cls, candidates: Any) -> Any:
        if isinstance(candidates, (str, Mapping)) or not isinstance(candidates, Sequence):
            raise ValueError("expected a list of students")
        found, problems = [], []
        for i, candidate in enumerate(candidates):
            try:
                config = students.resolve(candidate)
                found.append(config)
                if isinstance(config, AutoConfig):
                    problems.append(f"candidate {i}: 'auto' cannot be a candidate of itself")
            except ConfigError as error:
                problems.append(f"candidate {i}: {error.message}")
        if problems:
            raise ValueError("\n".join(problems))
        return found

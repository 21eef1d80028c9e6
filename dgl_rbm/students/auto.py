"""Several students to choose from: each is trained on the same table, and validation decides."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, SerializeAsAny, field_validator

from dgl_rbm.config import ComponentConfig
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
        description="The students to train: names, or options with 'kind'. The one of the best validation "
        "accuracy is kept; of equal ones, that of the lowest loss.",
    )

    @field_validator("candidates", mode="before")
    @classmethod
    def _resolved(cls, candidates: Any) -> Any:
        return students.resolve_candidates(candidates)

"""Several encoders to choose from: a quick student is trained on the encodings of each, and validation decides."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field, SerializeAsAny, field_validator

from dgl_rbm.config import ComponentConfig
from dgl_rbm.errors import ConfigError
from dgl_rbm.registry import encoders, students

__all__ = ["AutoEncoderConfig"]


@encoders.register
class AutoEncoderConfig(ComponentConfig):
    """The encoder whose encodings help a student most on the validation nodes."""

    kind: Literal["auto"] = Field(default="auto", description="The best of several encoders on the validation nodes.")
    candidates: list[SerializeAsAny[ComponentConfig]] = Field(
        default=["diffusion", "soft_labels", "none"],
        min_length=1,
        validate_default=True,
        description="The encoders to try: names, or options with 'kind'. The one of the best validation "
        "accuracy is kept; of equal ones, that of the lowest loss. In inductive runs, encoders that are fitted with "
        "the validation nodes in the graph, such as 'deepwalk', have a head start over 'soft_labels', which hides "
        "them.",
    )
    judge: SerializeAsAny[ComponentConfig] = Field(
        default="mlp",  # type: ignore[assignment]
        validate_default=True,
        description="The student that is trained on the encodings of each, a quick one.",
    )

    @field_validator("candidates", mode="before")
    @classmethod
    def _resolved(cls, candidates: Any) -> Any:
        return encoders.resolve_candidates(candidates)

    @field_validator("judge", mode="before")
    @classmethod
    def _one_student(cls, judge: Any) -> Any:
        if isinstance(judge, Mapping):
            judge = {"kind": "mlp", **judge}
        try:
            found = students.resolve(judge)
        except ConfigError as error:
            raise ValueError(error.message) from None
        if found.kind == "auto":
            raise ValueError("the judge is one student, not 'auto'")
        return found

    @property
    def reads_teacher(self) -> bool:
        """Whether the encodings of a candidate depend on the teacher."""
        return any(getattr(candidate, "reads_teacher", False) for candidate in self.candidates)

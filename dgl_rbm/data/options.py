"""Options of a task, checked before its graph is read."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, StrictStr, field_validator

from dgl_rbm.config import StrictConfig
from dgl_rbm.data.base import NormalizationKind
from dgl_rbm.data.splits import parse_split
from dgl_rbm.data.task import Setting

__all__ = ["MOST_CLASSES", "TaskOptions"]

# Names and sizes of the classes are held in memory, whether or not a class occurs.
MOST_CLASSES = 1_000_000


class TaskOptions(StrictConfig):
    """Arguments of `make_task` beside the graph and its arrays."""

    name: StrictStr
    setting: Setting
    seed: Annotated[int, Field(ge=0)]
    split: StrictStr | None
    unseen_fraction: Annotated[float, Field(gt=0, le=1)] | None
    normalize: NormalizationKind
    rescale: bool
    symmetrize: bool
    num_classes: Annotated[int, Field(ge=2, le=MOST_CLASSES)] | None
    split_index: int | None
    allow_missing_classes: bool

    @field_validator("split")
    @classmethod
    def _split_parses(cls, text: str | None) -> str | None:
        if text is not None:
            parse_split(text)
        return text

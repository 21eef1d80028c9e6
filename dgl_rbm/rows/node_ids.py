"""The nodes' own ids: integers or text, beside their positions in a graph."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from dgl_rbm.errors import DataError, closest
from dgl_rbm.rows.checked import id_array

__all__ = ["NodeIds", "name_nodes"]

_SHOWN = 5


class NodeIds:
    """Ids of the N nodes of a graph, in the order of the graph's nodes.

    Parameters
    ----------
    values : ndarray
        int64 or text (object) ``[N]``, without repetition; `NodeIds.of` checks and converts other arrays.

    Attributes
    ----------
    values : ndarray
        int64 or object ``[N]``.
    """

    def __init__(self, values: np.ndarray) -> None:
        self.values = values

    @classmethod
    def of(cls, values: Any | None, count: int) -> NodeIds:
        """Check and convert ids.

        Parameters
        ----------
        values : array-like or None
            Integers or text ``[N]``; None for the positions 0 to N − 1.
        count : int
            Number of nodes, N.

        Raises
        ------
        DataError
            If there are not N ids, they are neither integers nor text, or one is repeated.
        """
        if values is None:
            return cls(np.arange(count, dtype=np.int64))
        ids = id_array(values, "the node ids")
        if len(ids) != count:
            raise DataError(f"There are {len(ids)} node ids; the graph has {count} nodes.")
        unique, counts = np.unique(ids, return_counts=True)
        if len(unique) < count:
            repeated = unique[counts > 1]
            raise DataError(f"The node ids are not unique: {_shown(repeated)} repeated.")
        return cls(ids)

    def __len__(self) -> int:
        return len(self.values)

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, NodeIds) and self.is_text == other.is_text and np.array_equal(self.values, other.values)
        )

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        kind = "text" if self.is_text else "positions" if self.are_positions else "integers"
        return f"NodeIds({len(self)} {kind})"

    @property
    def is_text(self) -> bool:
        """Whether the ids are text."""
        return self.values.dtype.kind == "O"

    @cached_property
    def are_positions(self) -> bool:
        """Whether the ids are 0 to N − 1, in this order."""
        return not self.is_text and bool(np.array_equal(self.values, np.arange(len(self))))

    def at(self, positions: Any) -> np.ndarray:
        """Return the ids at some positions, int64 or object ``[B]``."""
        found: np.ndarray = self.values[np.asarray(positions, dtype=np.int64)]
        return found

    def positions(self, ids: Any, *, what: str = "node_ids", missing: Literal["raise", "mark"] = "raise") -> Tensor:
        """Return the positions of some nodes.

        Parameters
        ----------
        ids : array-like
            Integers or text ``[B]``, of the type of the graph's ids.
        what : str
            Name of the argument in errors.
        missing : {"raise", "mark"}
            Whether an unknown id is an error or has position −1.

        Returns
        -------
        Tensor
            int64 ``[B]``.

        Raises
        ------
        DataError
            If the ids are of the other type, or one is unknown and `missing` is ``"raise"``.
        """
        wanted = id_array(ids, what)
        if len(wanted) and (wanted.dtype.kind == "O") != self.is_text:
            expected = "text" if self.is_text else "integers"
            raise DataError(
                f"{what} contains {wanted.tolist()[0]!r}; the ids of this graph are {expected}, such as "
                f"{self._examples()}."
            )
        found = self._find(wanted)
        unknown = np.flatnonzero(found < 0)
        if len(unknown) and missing == "raise":
            raise DataError(
                f"{what}: the graph has no node {_shown(wanted[unknown])}.", hint=self._suggestion(wanted[unknown[0]])
            )
        return torch.from_numpy(found)

    def state_dict(self) -> dict[str, Tensor]:
        """Return the ids as tensors; none but the number of nodes if they are positions."""
        if self.are_positions:
            return {"count": torch.tensor(len(self))}
        if not self.is_text:
            return {"integers": torch.from_numpy(self.values)}
        texts = [text.encode() for text in self.values]
        ends = np.cumsum([len(text) for text in texts], dtype=np.int64)
        return {
            "text": torch.from_numpy(np.frombuffer(b"".join(texts), dtype=np.uint8).copy()),
            "ends": torch.from_numpy(ends),
        }

    @classmethod
    def from_state(cls, state: dict[str, Tensor]) -> NodeIds:
        """Restore ids from their `state_dict`."""
        if "count" in state:
            return cls(np.arange(int(state["count"]), dtype=np.int64))
        if "integers" in state:
            return cls(state["integers"].numpy())
        content, ends = state["text"].numpy().tobytes(), state["ends"].tolist()
        texts = [content[start:end].decode() for start, end in zip([0, *ends], ends, strict=False)]
        return cls(np.array(texts, dtype=object))

    def _find(self, wanted: np.ndarray) -> np.ndarray:
        if self.are_positions:
            return np.where((wanted >= 0) & (wanted < len(self)), wanted, -1)
        if self.is_text:
            return np.array([self._position_of.get(text, -1) for text in wanted], dtype=np.int64)
        if not len(self):
            return np.full(len(wanted), -1, dtype=np.int64)
        order = self._order
        near = order[np.searchsorted(self.values, wanted, sorter=order).clip(max=len(order) - 1)]
        return np.where(self.values[near] == wanted, near, -1)

    @cached_property
    def _position_of(self) -> dict[str, int]:
        return {text: position for position, text in enumerate(self.values)}

    @cached_property
    def _order(self) -> np.ndarray:
        return np.argsort(self.values, kind="stable")

    def _examples(self) -> str:
        return ", ".join(repr(value) for value in self.values[:3].tolist()) or "none"

    def _suggestion(self, unknown: Any) -> str:
        if self.are_positions:
            return f"The ids are 0 to {len(self) - 1}."
        near = closest(unknown, self.values.tolist()) if self.is_text and len(self) <= 10_000 else None
        return f"Did you mean {near!r}?" if near else f"The ids are those of the graph, such as {self._examples()}."


def name_nodes(positions: Tensor, ids: NodeIds | None = None) -> str:
    """Format the first few nodes for a message, by their own ids: ``"nodes 3, 5 and 2 more"``."""
    first = positions[:_SHOWN].tolist() if ids is None else ids.at(positions[:_SHOWN]).tolist()
    more = f" and {len(positions) - _SHOWN} more" if len(positions) > _SHOWN else ""
    return f"node{'s' if len(positions) > 1 else ''} {', '.join(map(str, first))}{more}"


def _shown(values: Sequence[Any] | np.ndarray) -> str:
    shown = ", ".join(repr(value) for value in np.asarray(values)[:_SHOWN].tolist())
    return f"{shown} and {len(values) - _SHOWN} more" if len(values) > _SHOWN else shown

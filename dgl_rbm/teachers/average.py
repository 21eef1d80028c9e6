"""Average of several teachers: the weighted mean of their probabilities."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import Field, SerializeAsAny, ValidationInfo, field_validator
from scipy.optimize import minimize_scalar
from torch import Tensor
from torch.nn.functional import cross_entropy

from dgl_rbm.data.task import GraphView, ObservedGraph
from dgl_rbm.errors import ArtifactError, ConfigError, DglRbmError, TimeBudgetError
from dgl_rbm.registry import teachers
from dgl_rbm.rows.sparse import Rows
from dgl_rbm.runtime.context import RunContext
from dgl_rbm.teachers.base import Teacher, TeacherConfig, TeacherOutput

__all__ = ["AverageConfig", "AverageTeacher", "likeliest_temperature", "likeliest_weights"]


class AverageTeacher(Teacher):
    """Predicts the weighted mean of its members' probabilities.

    The logits are the logarithm of the mean. Width and depth, the defaults of students, are those of the first member
    that has them.

    Parameters
    ----------
    members : sequence of Teacher
        At least one. Each member is trained with its own seed, so members with the same config differ.
    weights : sequence of float, or "validation", optional
        Weights of the members, above zero; scaled to sum to one. Equal by default. ``"validation"`` fits, after all
        members are trained, a temperature for each and then the weights to maximise the likelihood of the validation
        labels.
    """

    kind = "average"

    def __init__(
        self, members: Sequence[Teacher], weights: Sequence[float] | Literal["validation"] | None = None
    ) -> None:
        if not members:
            raise ConfigError("The teacher 'average' has no members.", hint="Give at least one: `teacher: [sage]`.")
        self.fits_weights = weights == "validation"
        shares = [1.0] * len(members) if weights is None or self.fits_weights else weights
        if isinstance(shares, str) or len(shares) != len(members) or not all(0 < share < math.inf for share in shares):
            raise ConfigError(
                f"The teacher 'average' was given the weights {shares!r} for {len(members)} members; expected one "
                "above zero for each, or 'validation'."
            )
        self.members = list(members)
        self.weights = [share / sum(shares) for share in shares]
        self.temperatures = [1.0] * len(shares)
        self.hidden_dim = next((member.hidden_dim for member in members if member.hidden_dim), None)
        self.num_layers = next((member.num_layers for member in members if member.num_layers), None)
        self.predicts_single_nodes = all(member.predicts_single_nodes for member in members)

    def fit(self, observed: ObservedGraph, context: RunContext) -> None:
        """Train the members one after the other, each in its own part of the run; see `RunContext.part`.

        Finished members and the state of the current one are kept in checkpoints.

        Raises
        ------
        DglRbmError
            If a member raises one; its position is added to the message.
        """
        for i, member in enumerate(self.members):
            with context.part(f"member-{i}") as part, self._named(i):
                member.load_state_dict(part.cached("teacher", lambda: self._fitted(i, observed, part)))  # noqa: B023
            for entry in part.history:
                context.history.append({**entry, "member": i})
        if self.fits_weights:
            self._fit_weights(observed, context)

    def _fit_weights(self, observed: ObservedGraph, context: RunContext) -> None:
        labels = observed.labels[observed.val_idx]
        columns = []
        for i, member in enumerate(self.members):
            with self._named(i):
                logits = member.predict(observed, context).logits[observed.val_idx].double()
            # An underconfident member would get hardly any weight.
            self.temperatures[i] = likeliest_temperature(logits, labels)
            probabilities = torch.softmax(logits / self.temperatures[i], dim=1)
            columns.append(probabilities.gather(1, labels[:, None]))
        self.weights = likeliest_weights(torch.cat(columns, dim=1)).tolist()

    def _fitted(self, i: int, observed: ObservedGraph, part: RunContext) -> dict[str, Any]:
        self.members[i].fit(observed, part)
        return self.members[i].state_dict()

    def predict(
        self, view: GraphView, context: RunContext, *, features: Rows | None = None, return_hidden: bool = False
    ) -> TeacherOutput:
        """Predict every node of `view`; the hidden states of the members that have any are concatenated."""
        logits: list[Tensor] = []
        hidden: list[Tensor] = []
        for i, member in enumerate(self.members):
            with self._named(i):
                output = member.predict(view, context, features=features, return_hidden=return_hidden)
            logits.append(output.logits)
            hidden += [] if output.hidden is None else [output.hidden]
        return TeacherOutput(self._mean(logits), torch.cat(hidden, dim=1) if hidden else None)

    def predict_nodes(self, view: GraphView, node_ids: Tensor) -> tuple[Tensor, int]:
        """Predict a few nodes; the members' neighbourhoods are nested, so only the largest counts as fetched."""
        answers = [member.predict_nodes(view, node_ids) for member in self.members]
        return self._mean([logits for logits, _ in answers]), max(fetched for _, fetched in answers)

    def num_parameters(self) -> int:
        """Return the number of trained parameters of all members."""
        return sum(member.num_parameters() for member in self.members)

    def state_dict(self) -> dict[str, Any]:
        """Return the members' states, weights and temperatures."""
        return {
            "members": [member.state_dict() for member in self.members],
            "weights": torch.tensor(self.weights, dtype=torch.float64),
            "temperatures": torch.tensor(self.temperatures, dtype=torch.float64),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Load the members' states; raises `ArtifactError` if their number differs."""
        states = state.get("members")
        if not isinstance(states, list) or len(states) != len(self.members):
            found = f"{len(states)} members" if isinstance(states, list) else "no members"
            raise ArtifactError(f"The saved teacher has {found}; this one has {len(self.members)}.")
        for i, (member, part) in enumerate(zip(self.members, states, strict=True)):
            with self._named(i):
                member.load_state_dict(part)
        self.weights, self.temperatures = state["weights"].tolist(), state["temperatures"].tolist()

    def _mean(self, logits: Sequence[Tensor]) -> Tensor:
        if len(logits) == 1:
            return logits[0] / self.temperatures[0]
        tempered = [rows / temperature for rows, temperature in zip(logits, self.temperatures, strict=True)]
        parts = [rows.log_softmax(dim=1) + math.log(share) for rows, share in zip(tempered, self.weights, strict=True)]
        return torch.logsumexp(torch.stack(parts), dim=0)

    @contextmanager
    def _named(self, i: int) -> Iterator[None]:
        """Add the member's position to its errors and to the options that they mention."""
        try:
            yield
        except TimeBudgetError:
            raise
        except DglRbmError as error:
            error.message = f"teacher.members.{i} ('{self.members[i].kind}'): {error.message}"
            if error.hint is not None:
                error.hint = error.hint.replace("teacher.training.", f"teacher.members.{i}.training.")
            error.args = (error.message if error.hint is None else f"{error.message}\n{error.hint}",)
            raise


def likeliest_temperature(logits: Tensor, labels: Tensor) -> float:
    """Return the temperature, between 0.02 and 50, that maximises the likelihood of the labels.

    Temperature scaling (Guo et al., On Calibration of Modern Neural Networks, ICML 2017).

    Parameters
    ----------
    logits : Tensor
        ``[B, C]``.
    labels : Tensor
        int64 ``[B]``.
    """
    if not len(labels):
        return 1.0

    def loss(log_temperature: float) -> float:
        return float(cross_entropy(logits.double() / math.exp(log_temperature), labels))

    widest = math.log(50)
    return math.exp(minimize_scalar(loss, bounds=(-widest, widest), method="bounded").x)


def likeliest_weights(probabilities: Tensor, steps: int = 1000) -> Tensor:
    """Return the maximum-likelihood weights of a mixture of known components.

    Expectation maximisation (Dempster, Laird and Rubin, 1977) from equal weights. The likelihood is concave in the
    weights, so it converges to the maximum.

    Parameters
    ----------
    probabilities : Tensor
        Likelihood of each observation under each component, float64 ``[B, M]``.
    steps : int
        Maximum number of steps; iteration stops at convergence.

    Returns
    -------
    Tensor
        float64 ``[M]``, above zero, summing to one.
    """
    count, parts = probabilities.shape
    smallest = torch.finfo(probabilities.dtype).tiny
    weights = torch.full((parts,), 1 / parts, dtype=probabilities.dtype)
    for _ in range(steps if count else 0):
        joint = (probabilities * weights).clamp(min=smallest)
        moved = (joint / joint.sum(dim=1, keepdim=True)).mean(dim=0).clamp(min=1e-9)
        moved = moved / moved.sum()
        if bool((moved - weights).abs().max() < 1e-9):
            return moved
        weights = moved
    return weights


@teachers.register
class AverageConfig(TeacherConfig):
    """Mean of the probabilities of several teachers."""

    kind: Literal["average"] = Field("average", description="Mean of the probabilities of several teachers.")
    members: list[SerializeAsAny[TeacherConfig]] = Field(
        min_length=1,
        description="The teachers: names, or options with 'kind'. `teacher: [sage, appnp]` and 'sage+appnp' are "
        "averages too.",
    )
    weights: list[float] | Literal["validation"] | None = Field(
        default=None,
        description="Weight of each member, above zero; null for equal weights, 'validation' for the weights and "
        "temperatures that maximise the likelihood of the validation labels.",
    )

    @property
    def accepts_perturbed_features(self) -> bool:
        """Whether every member can predict from perturbed features."""
        return all(member.accepts_perturbed_features for member in self.members)

    def files(self) -> list[Path]:
        """Return the files that the members read."""
        return [path for member in self.members for path in member.files()]

    @field_validator("members", mode="before")
    @classmethod
    def _resolved(cls, members: Any) -> Any:
        return teachers.resolve_all(members, "member")

    @field_validator("members")
    @classmethod
    def _all_predict(cls, members: list[TeacherConfig]) -> list[TeacherConfig]:
        for member in members:
            if not member.has_predictions:
                raise ValueError(f"'{member.kind}' makes no predictions and cannot be a member of an average")
        return members

    @field_validator("weights")
    @classmethod
    def _one_weight_each(cls, weights: Any, info: ValidationInfo) -> Any:
        members = info.data.get("members")
        if isinstance(weights, str):
            return weights
        if weights is not None and members is not None and len(weights) != len(members):
            raise ValueError(f"there are {len(weights)} weights for {len(members)} members")
        if any(not 0 < weight < math.inf for weight in weights or ()):
            raise ValueError("each must be above zero")
        return weights

    def build(self, in_dim: int, num_classes: int) -> AverageTeacher:
        """Build the members, one after the other, and the teacher."""
        return AverageTeacher([member.build(in_dim, num_classes) for member in self.members], self.weights)

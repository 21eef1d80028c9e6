"""Distillation step as described in the RbM paper: the baseline of `distillation_step.py`.

Features are dense. Experts run one after another, each with gathered rows and scattered results. The KRD loss takes one
student pass per edge sampled in the epoch (RbM paper, eq. 12); the package uses expected targets and one pass per node.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["PublishedRbM", "PublishedStep", "StepOptions"]

# The features of all sampled edges of a large graph would not fit into memory.
_EDGES_AT_ONCE = 16_384


class _Expert(nn.Module):
    def __init__(self, in_dim: int, out_dim: int, attention: bool) -> None:
        super().__init__()
        self.linear = nn.Linear(in_dim, out_dim)
        self.attention = nn.Parameter(torch.full((in_dim,), math.log(1.1))) if attention else None

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x if self.attention is None else x * self.attention.clamp(max=math.log(100)).exp())


class _Layer(nn.Module):
    def __init__(self, in_dim: int, out_dim: int, options: dict[str, Any]) -> None:
        super().__init__()
        self.top_k = options["top_k"]
        count = options["num_experts"]
        self.experts = nn.ModuleList(_Expert(in_dim, out_dim, options["input_attention"]) for _ in range(count))
        self.memory = nn.Parameter(functional.normalize(torch.randn(count, in_dim)))
        self.scale = nn.Parameter(torch.tensor(math.log(2)))

    def route(self, x: Tensor) -> tuple[Tensor, Tensor]:
        cosines = functional.normalize(x, dim=1) @ functional.normalize(self.memory.detach(), dim=1).t()
        best, chosen = cosines.topk(self.top_k, dim=1)
        return cosines, torch.zeros_like(cosines).scatter(1, chosen, best.softmax(dim=1))

    def forward(self, x: Tensor, dropout: float) -> tuple[Tensor, Tensor, Tensor]:
        cosines, gates = self.route(x)
        inputs = functional.dropout(x, dropout, self.training)
        mixed = torch.zeros(len(x), self.experts[0].linear.out_features)
        for expert, gate in zip(self.experts, gates.detach().unbind(dim=1), strict=True):
            rows = gate.nonzero().squeeze(1)
            if len(rows):
                output = expert(inputs[rows]) * gate[rows].unsqueeze(1)
                mixed.index_add_(0, rows, output)
        return mixed * self.scale.clamp(max=math.log(100)).exp(), cosines, gates

    @torch.no_grad()
    def update_memory(self, x: Tensor, gates: Tensor, momentum: float) -> None:
        if self.memory.grad is not None:
            self.memory.sub_(self.memory.grad)
            self.memory.grad = None
        directions = functional.normalize(x, dim=1)
        for e in range(len(self.memory)):
            rows = gates[:, e].nonzero().squeeze(1)
            if len(rows):
                centre = gates[rows, e].softmax(dim=0) @ directions[rows]
                old = functional.normalize(self.memory[e], dim=0)
                self.memory[e] = functional.normalize(momentum * old + (1 - momentum) * centre, dim=0)


class PublishedRbM(nn.Module):
    """RbM on dense rows; `options` has the names of the options of the package's `RbM`."""

    def __init__(self, in_dim: int, num_classes: int, options: dict[str, Any]) -> None:
        super().__init__()
        self.options = options
        width, depth = options["hidden_dim"], options["num_layers"]
        widths = [in_dim, *[width] * (depth - 1), num_classes]
        self.layers = nn.ModuleList(_Layer(widths[i], widths[i + 1], options) for i in range(depth))
        self.norms = nn.ModuleList(
            nn.BatchNorm1d(width) if options["norm"] == "batch" else nn.Identity() for _ in range(depth - 1)
        )

    def forward(self, x: Tensor) -> tuple[Tensor, list[tuple[Tensor, Tensor, Tensor]]]:
        """Return the logits, and the input, cosines and gates of each layer."""
        passes = []
        for depth, layer in enumerate(self.layers):
            output, cosines, gates = layer(x, self.options["dropout"] if depth else 0.0)
            passes.append((x, cosines, gates))
            x = functional.relu(self.norms[depth](output)) if depth < len(self.norms) else output
        return x, passes

    def penalties(self, passes: list[tuple[Tensor, Tensor, Tensor]]) -> Tensor:
        """Return the weighted sum of equations 6, 7 and 8 over all layers."""
        total = torch.zeros(())
        for layer, (_, cosines, gates) in zip(self.layers, passes, strict=True):
            total = total - self.options["commitment_weight"] * (gates * cosines).sum() / len(gates)
            memory = functional.normalize(layer.memory, dim=1)
            total = total + self.options["self_similarity_weight"] * (memory @ memory.detach().t()).mean()
            load = gates.sum(dim=0)
            total = total + self.options["load_balance_weight"] * load.var(unbiased=False) / load.mean() ** 2
        return total

    def start_routing(self, x: Tensor) -> None:
        """Copy the first expert to all others and initialise memories with random rows."""
        with torch.no_grad():
            for layer in self.layers:
                for expert in layer.experts[1:]:
                    expert.load_state_dict(layer.experts[0].state_dict())
                rows = x[torch.randperm(len(x))[: len(layer.memory)]]
                layer.memory.copy_(functional.normalize(rows + 1e-3 * torch.randn_like(rows), dim=1))
                x = functional.relu(layer(x, 0.0)[0])


@dataclass
class StepOptions:
    """Hyperparameters of the training step.

    Attributes
    ----------
    hard_label_weight, temperature : float
        ν and τ.
    lr, weight_decay : float
        Options of Adam.
    memory_momentum : float
        λ.
    batch_size : int
        Nodes per step.
    """

    hard_label_weight: float
    temperature: float
    lr: float
    weight_decay: float
    memory_momentum: float
    batch_size: int


class PublishedStep:
    """Distillation with sampled edges.

    Parameters
    ----------
    student : PublishedRbM
    x : Tensor
        Dense features and encodings, ``[N, F + P]``.
    labels, train_idx, val_idx, teacher_logits
        As in `dgl_rbm.training.table.DistillationTable`.
    edges : tuple of Tensor
        Sources and destinations.
    keep : Tensor
        Sampling probability p of each node as the source of an edge, ``[N]``.
    options : StepOptions
    """

    def __init__(
        self,
        student: PublishedRbM,
        x: Tensor,
        labels: Tensor,
        train_idx: Tensor,
        val_idx: Tensor,
        teacher_logits: Tensor,
        edges: tuple[Tensor, Tensor],
        keep: Tensor,
        options: StepOptions,
    ) -> None:
        self.student, self.x, self.labels, self.val_idx = student, x, labels, val_idx
        self.source, self.destination = edges
        self.keep, self.options = keep, options
        self.soft = (teacher_logits / options.temperature).softmax(dim=1)
        self.is_train = torch.zeros(len(x), dtype=torch.bool)
        self.is_train[train_idx] = True
        self.optimizer = torch.optim.Adam(student.parameters(), lr=options.lr, weight_decay=options.weight_decay)

    def epoch(self) -> float:
        """Train one epoch and return the validation accuracy."""
        self.student.train()
        count = len(self.x)
        sampled = (torch.rand(len(self.source)) < self.keep[self.source]).nonzero().squeeze(1)
        # Edges belong to the batch of their destination.
        full = self.options.batch_size >= count
        step_of = torch.zeros(count, dtype=torch.long) if full else torch.randperm(count) // self.options.batch_size
        for step in range(int(step_of.max()) + 1):
            nodes = (step_of == step).nonzero().squeeze(1)
            edges = sampled if full else sampled[step_of[self.destination[sampled]] == step]
            self._step(nodes, edges)
        self.student.eval()
        with torch.no_grad():
            parts = [self.student(part)[0].argmax(dim=1) for part in self.x.split(65_536)]
        return float((torch.cat(parts)[self.val_idx] == self.labels[self.val_idx]).float().mean())

    def _step(self, nodes: Tensor, edges: Tensor) -> None:
        options = self.options
        self.optimizer.zero_grad()
        logits, passes = self.student(self.x[nodes])
        share = len(nodes) / len(self.x)
        known = self.is_train[nodes]
        hard = functional.cross_entropy(logits[known], self.labels[nodes][known], reduction="sum")
        loss = options.hard_label_weight * hard / int(self.is_train.sum()) / share
        divergence = self._divergence(logits, self.soft[nodes])
        loss = loss + (1 - options.hard_label_weight) * divergence / len(nodes) + self.student.penalties(passes)
        loss.backward()
        for part in edges.split(_EDGES_AT_ONCE):
            logits, _ = self.student(self.x[self.destination[part]])
            divergence = self._divergence(logits, self.soft[self.source[part]])
            ((1 - options.hard_label_weight) * divergence / max(1, len(edges))).backward()
        # Memories take a separate gradient step, as in the package.
        kept = [layer.memory.grad for layer in self.student.layers]
        for layer in self.student.layers:
            layer.memory.grad = None
        self.optimizer.step()
        for layer, gradient, (x, _, gates) in zip(self.student.layers, kept, passes, strict=True):
            layer.memory.grad = gradient
            layer.update_memory(x.detach(), gates.detach(), options.memory_momentum)

    def _divergence(self, logits: Tensor, targets: Tensor) -> Tensor:
        log_probs = functional.log_softmax(logits / self.options.temperature, dim=1)
        return functional.kl_div(log_probs, targets, reduction="sum")

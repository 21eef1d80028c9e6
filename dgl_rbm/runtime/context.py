"""Context of a run: seed, device, progress callbacks, history and checkpoints."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch

from dgl_rbm.runtime.callbacks import Callback
from dgl_rbm.runtime.checkpoint import CheckpointStore, NullCheckpointStore
from dgl_rbm.runtime.process_state import as_caller
from dgl_rbm.runtime.seeding import derive_seed, seeded
from dgl_rbm.runtime.shared import NullSharedParts, SharedParts

__all__ = ["RunContext", "Stage"]


@dataclass
class Stage:
    """One stage of a run under way, such as the teacher's training; made by `RunContext.stage`."""

    name: str
    total: int
    context: RunContext

    def substep(self, done: int, total: int) -> None:
        """Report that `done` of `total` parts of the step under way are done, such as batches of an epoch."""
        self.context.notify("on_substep", self.name, done, total)

    def step(self, done: int, **metrics: float) -> None:
        """Report that `done` of `total` units are done; record and show the `metrics` of the last one."""
        if metrics:
            self.context.history.append({"stage": self.name, "step": done, **metrics})
        self.context.notify("on_step", self.name, done, metrics)


@dataclass
class RunContext:
    """Seed, device, callbacks, history, checkpoints and stage times of one run.

    Attributes
    ----------
    seed : int
        Every stage draws from a generator seeded by this and the stage's name, so that a stage taken from a
        checkpoint leaves the ones after it as they would have been.
    device : torch.device
        Device of the training.
    callbacks : sequence of Callback
        Notified of each stage and step; the progress bar is one.
    checkpoints : CheckpointStore
        Keeps finished and half-finished stages; the default keeps nothing.
    shared : SharedParts
        Finished parts that several runs take from each other; the default shares nothing.
    history : list of dict
        One entry per recorded step, in order.
    seconds : dict of str to float
        Wall time by stage.
    """

    seed: int = 0
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    callbacks: Sequence[Callback] = ()
    checkpoints: CheckpointStore = field(default_factory=NullCheckpointStore)
    shared: SharedParts = field(default_factory=NullSharedParts)
    history: list[dict[str, Any]] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)
    _key: str = field(default="", repr=False)
    _entered: dict[str, int] = field(default_factory=dict, repr=False)
    _running: list[Stage] = field(default_factory=list, repr=False)

    @property
    def keeps(self) -> bool:
        """Whether anything is kept for this run or shared with others."""
        return self.checkpoints.enabled or self.shared.enabled

    @contextmanager
    def keyed(self, key: str, *, shared: bool) -> Iterator[None]:
        """Keep what is cached inside under `key`, a digest of everything that it depends on.

        Parameters
        ----------
        key : str
            Parts that were kept under another key are computed anew.
        shared : bool
            Whether other runs share them.
        """
        outer = self.checkpoints, self._key
        self.checkpoints, self._key = self.checkpoints.keyed(key), key if shared else ""
        try:
            yield
        finally:
            self.checkpoints, self._key = outer

    def notify(self, event: str, *arguments: Any) -> None:
        """Call the method `event` of all callbacks, in the caller's state of the process; see `as_caller`."""
        if self.callbacks:
            with as_caller():
                for callback in self.callbacks:
                    getattr(callback, event)(*arguments)

    def substep(self, done: int, total: int) -> None:
        """Report progress within the current step of the stage that is running; outside of stages do nothing."""
        if self._running:
            self._running[-1].substep(done, total)

    def cached(self, name: str, compute: Callable[[], Any]) -> Any:
        """Return the state of a finished part from its checkpoint or from another run, or compute and keep it.

        It is kept under the key of the stage under way; see `keyed`.

        Parameters
        ----------
        name : str
            The checkpoint's name; one of the name with ``-progress`` is no longer needed then and dropped.
        compute : callable
            Returns nested dicts and lists of tensors and scalars.
        """
        kept = self.checkpoints.load(name)
        if kept is not None:
            return self._reused(kept)
        with self.shared.reserved(name, self._key) as shared:
            kept = shared.load(name)
            if kept is not None:
                self.checkpoints.discard(f"{name}-progress")
                return self._reused(kept)
            recorded, before = len(self.history), dict(self.seconds)
            state = compute()
            seconds = {stage: value - before.get(stage, 0.0) for stage, value in self.seconds.items()}
            store = shared if shared.enabled else self.checkpoints
            store.save(
                name,
                {
                    "state": state,
                    "history": self.history[recorded:],
                    "seconds": {stage: value for stage, value in seconds.items() if value > 0},
                },
            )
        self.checkpoints.discard(f"{name}-progress")
        return state

    def _reused(self, kept: dict[str, Any]) -> Any:
        """Take over what a finished part recorded, and return its state."""
        self.history.extend(kept["history"])
        for stage, seconds in kept["seconds"].items():
            self.seconds[stage] = self.seconds.get(stage, 0.0) + seconds
            self.notify("on_stage_reused", stage, seconds)
        return kept["state"]

    @contextmanager
    def part(self, name: str, *, own_streams: bool = True) -> Iterator[RunContext]:
        """Give a context for a part of the run that has the same stages as others, such as one of several teachers.

        Its stages and history are its own, and its checkpoints are kept under names of their own; callbacks are
        shared, and its times are added to the run's when it ends.

        Parameters
        ----------
        name : str
            Of the part.
        own_streams : bool
            Whether its random streams are its own; otherwise they are those of a run that has this part alone.
        """
        checkpoints = self.checkpoints.under(name)
        seed = derive_seed(self.seed, name) if own_streams else self.seed
        inner = RunContext(seed, self.device, self.callbacks, checkpoints)
        inner._running = self._running
        try:
            yield inner
        finally:
            for stage, seconds in inner.seconds.items():
                self.seconds[stage] = self.seconds.get(stage, 0.0) + seconds

    @contextmanager
    def stage(self, name: str, total: int = 1, unit: str = "epochs") -> Iterator[Stage]:
        """Run a stage: seeds the random generators, times it, and tells the callbacks."""
        self.notify("on_stage_start", name, total, unit)
        start = time.perf_counter()
        depth = len(self._running)
        finished = False
        try:
            # A stage that comes again, such as a second encoder, draws a stream of its own.
            again = self._entered[name] = self._entered.get(name, -1) + 1
            with seeded(self.seed, f"{name} {again}" if again else name):
                self._running.append(Stage(name, total, self))
                yield self._running[-1]
            finished = True
        finally:
            del self._running[depth:]
            elapsed = time.perf_counter() - start
            self.seconds[name] = self.seconds.get(name, 0.0) + elapsed
            self.notify("on_stage_end", name, elapsed, finished)

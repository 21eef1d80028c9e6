"""Stages of a run: each declares its inputs, and its results are kept under a key derived from that declaration."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar, cast

from dgl_rbm.config import ComponentConfig
from dgl_rbm.data.task import ObservedGraph
from dgl_rbm.run.config import DistillConfig
from dgl_rbm.run.fingerprint import file_digest
from dgl_rbm.runtime.context import RunContext

__all__ = ["Scope", "Stage", "StageRunner", "stage_key"]

T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class Stage(Generic[T]):
    """A part of a run.

    Attributes
    ----------
    name : str
        Unique among the stages of a run.
    compute : callable
        Returns the result. It reads its inputs from the `Scope`, which has those that are declared and no others, so
        that a result can never be taken for that of other options.
    fields : tuple of str
        Dotted names of the fields of `DistillConfig` that it reads.
    upstream : tuple of Stage
        Stages whose results it reads.
    shared : bool
        Whether other runs may take what it computes, and it what they have computed.
    """

    name: str
    compute: Callable[[Scope], T]
    fields: tuple[str, ...] = ()
    upstream: tuple[Stage[Any], ...] = ()
    shared: bool = False


@dataclass(frozen=True)
class Scope:
    """Inputs of a stage.

    Attributes
    ----------
    config : DistillConfig
        Has the declared fields alone; reading another one raises AttributeError.
    observed : ObservedGraph
        The graph to learn from.
    context : RunContext
        Seed, device, callbacks; keeps what the stage caches under the stage's key.
    instances : mapping of str to object
        Components given as instances. Runs with any of them keep and share nothing.
    """

    config: DistillConfig
    observed: ObservedGraph
    context: RunContext
    instances: Mapping[str, Any]
    _stage: Stage[Any] = field(repr=False)
    _results: Mapping[str, Any] = field(repr=False)

    @property
    def upstream(self) -> tuple[Stage[Any], ...]:
        """The stages whose results are declared inputs."""
        return self._stage.upstream

    def result(self, stage: Stage[T]) -> T:
        """Return the result of an upstream stage.

        Raises
        ------
        LookupError
            If the stage is not declared as upstream.
        """
        if stage not in self.upstream:
            raise LookupError(f"The stage '{self._stage.name}' does not declare '{stage.name}' as upstream.")
        return cast(T, self._results[stage.name])


class _DeclaredFields:
    """Those fields of a config that a stage declares."""

    def __init__(self, config: Any, fields: Sequence[str], stage: str) -> None:
        self._config, self._fields, self._stage = config, tuple(fields), stage

    def __getattr__(self, name: str) -> Any:
        return self._declared(name, lambda: getattr(self._config, name))

    def __getitem__(self, position: int) -> Any:
        return self._declared(str(position), lambda: self._config[position])

    def _declared(self, name: str, read: Callable[[], Any]) -> Any:
        if name in self._fields:
            return read()
        inner = [path.removeprefix(f"{name}.") for path in self._fields if path.startswith(f"{name}.")]
        if not inner:
            raise AttributeError(f"The stage '{self._stage}' reads '{name}', which is not among its declared fields.")
        return _DeclaredFields(read(), inner, self._stage)


class StageRunner:
    """Computes stages of one run on demand, each once, with its upstream stages before it.

    Parameters
    ----------
    config : DistillConfig
        Resolved.
    observed : ObservedGraph
        The graph to learn from.
    context : RunContext
        Of the run.
    instances : mapping of str to object
        Components given as instances.
    identity : callable
        Returns what every stage depends on besides its declaration, as values that JSON knows: version, graph, seed
        and kind of device. Called once, if anything is kept.
    """

    def __init__(
        self,
        config: DistillConfig,
        observed: ObservedGraph,
        context: RunContext,
        instances: Mapping[str, Any],
        identity: Callable[[], Sequence[Any]],
    ) -> None:
        self.config, self.observed, self.context, self.instances = config, observed, context, instances
        self._identity = identity
        self._known_identity: Sequence[Any] | None = None
        self._results: dict[str, Any] = {}

    def result(self, stage: Stage[T]) -> T:
        """Return the result of a stage, computed on first use."""
        if stage.name not in self._results:
            for part in stage.upstream:
                self.result(part)
            view = cast(DistillConfig, _DeclaredFields(self.config, stage.fields, stage.name))
            with self.context.keyed(self._key(stage), shared=stage.shared):
                scope = Scope(view, self.observed, self.context, self.instances, stage, self._results)
                self._results[stage.name] = stage.compute(scope)
        return cast(T, self._results[stage.name])

    def _key(self, stage: Stage[Any]) -> str:
        if not self.context.keeps:
            return ""
        if self._known_identity is None:
            self._known_identity = self._identity()
        return stage_key(stage, self.config, self._known_identity)


def stage_key(stage: Stage[Any], config: DistillConfig, identity: Sequence[Any]) -> str:
    """Return a digest of everything that the result of a stage depends on.

    Parameters
    ----------
    stage : Stage
        Its name, its declared fields with the files that they name, and the keys of its upstream stages are in the
        digest.
    config : DistillConfig
        Resolved.
    identity : sequence
        What all stages depend on; see `StageRunner`.

    Returns
    -------
    str
        64 hexadecimal digits.
    """
    values = config.to_values()
    read = {path: _at(values, path) for path in stage.fields}
    files = [file_digest(path).hex() for name in stage.fields for path in _files(_at(config, name))]
    upstream = [stage_key(part, config, identity) for part in stage.upstream]
    text = json.dumps([*identity, stage.name, read, files, upstream], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _at(value: Any, path: str) -> Any:
    for key in path.split("."):
        if isinstance(value, list):
            value = value[int(key)]
        else:
            value = value[key] if isinstance(value, Mapping) else getattr(value, key)
    return value


def _files(value: Any) -> Iterator[Any]:
    """Yield the files that the components of a config's field read."""
    for component in value if isinstance(value, list) else [value]:
        if isinstance(component, ComponentConfig):
            yield from component.files()

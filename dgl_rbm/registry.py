"""Registries: component names, as on the command line, and the config classes that they stand for.

A built-in component is named like its module, which is imported when the component is first used.
Other packages add components through entry points of the group ``dgl_rbm.<plural>``, such as
``dgl_rbm.students``; a script adds one with the decorator `Registry.register`.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from importlib.metadata import entry_points
from typing import Any, Generic, TypeVar, get_args

from dgl_rbm.config import ComponentConfig, validated
from dgl_rbm.errors import ConfigError, UnknownNameError, command, shown

__all__ = [
    "DEFAULTS",
    "DEFAULT_DEPTH",
    "DEFAULT_WIDTH",
    "REGISTRIES",
    "Registry",
    "datasets",
    "encoders",
    "regularizers",
    "students",
    "teachers",
]

C = TypeVar("C", bound=ComponentConfig)


class Registry(Generic[C]):
    """The components of one kind.

    Parameters
    ----------
    what : str
        The kind in the singular: ``"student"``.
    package : str
        Package of the built-in components.
    builtin : mapping of str to str
        Component name to the module that registers it: a module in `package`, or the full name of another.
    """

    def __init__(self, what: str, package: str, builtin: Mapping[str, str]) -> None:
        self.what = what
        self.package = package
        self._builtin = dict(builtin)
        self._configs: dict[str, type[C]] = {}
        self._entry_points: dict[str, Any] | None = None

    def register(self, config: type[C]) -> type[C]:
        """Register a config class under each literal value of its ``kind`` field; usable as a decorator."""
        kinds = get_args(config.model_fields["kind"].annotation)
        if not kinds:
            raise ConfigError(
                f"{config.__qualname__} does not name the {self.what} that it configures.",
                hint='Declare the field `kind: Literal["my_name"] = "my_name"`.',
            )
        for kind in kinds:
            known = self._configs.get(kind)
            if known is not None and known.__qualname__ != config.__qualname__:
                raise ConfigError(
                    f"The {self.what} '{kind}' is already registered as {known.__module__}.{known.__qualname__}.",
                    hint="Give the new component another `kind`.",
                )
            self._configs[kind] = config
        return config

    def names(self) -> list[str]:
        """Return the names of all components, sorted."""
        return sorted({*self._builtin, *self._configs, *self._plugins()})

    def config_class(self, name: str) -> type[C]:
        """Return the config class of a component.

        Raises
        ------
        UnknownNameError
            If there is no such component; names the nearest one.
        """
        if name not in self._configs:
            if name in self._builtin:
                module = self._builtin[name]
                importlib.import_module(module if "." in module else f"{self.package}.{module}")
            elif name in self._plugins():
                self.register(self._plugins()[name].load())
            else:
                raise UnknownNameError(
                    self.what,
                    name,
                    self.names(),
                    hint=f"`{command('components', self.what)}` describes each of them.",
                )
        return self._configs[name]

    def resolve(self, spec: str | Mapping[str, Any] | ComponentConfig) -> C:
        """Turn a name, a mapping with ``kind``, or a config into a config."""
        if isinstance(spec, ComponentConfig):
            for registry in REGISTRIES.values():
                if registry is not self and type(spec) in registry._configs.values():
                    raise ConfigError(
                        f"{self.what}: {type(spec).__name__} configures a {registry.what}.",
                        hint=f"Choices: {', '.join(self.names())}.",
                    )
            return spec  # type: ignore[return-value]
        if isinstance(spec, str):
            return validated(self.config_class(spec), {"kind": spec}, where=self.what)
        if isinstance(spec, Mapping):
            kind = spec.get("kind")
            if not isinstance(kind, str):
                raise ConfigError(
                    f"{self.what}: the mapping {shown(dict(spec))} has no 'kind', which names the component.",
                    hint=f"Choices: {', '.join(self.names())}.",
                )
            return validated(self.config_class(kind), dict(spec), where=self.what)
        raise ConfigError(
            f"{self.what}: expected a name, a mapping or a config, got {type(spec).__name__}.",
            hint=f"Choices: {', '.join(self.names())}.",
        )

    def resolve_all(self, specs: Any, each: str) -> list[C]:
        """Resolve a list of components, for validators of options.

        Parameters
        ----------
        specs : sequence
            As for `resolve`.
        each : str
            Name of one of them in errors.

        Raises
        ------
        ValueError
            If `specs` is not a list; else names all that cannot be resolved.
        """
        if isinstance(specs, (str, Mapping)) or not isinstance(specs, Sequence):
            raise ValueError(f"expected a list of {self.what}s")
        found, problems = [], []
        for i, spec in enumerate(specs):
            try:
                found.append(self.resolve(spec))
            except ConfigError as error:
                problems.append(f"{each} {i}: {error.in_one_line}")
        if problems:
            raise ValueError("\n".join(problems))
        return found

    def _plugins(self) -> dict[str, Any]:
        if self._entry_points is None:
            group = f"{self.package.split('.')[0]}.{self.what}s"
            self._entry_points = {point.name: point for point in entry_points(group=group)}
        return self._entry_points


def _same(*names: str) -> dict[str, str]:
    return {name: name for name in names}


# Selection among several components, by the name that stands for one of them.
_AUTO = {"auto": "dgl_rbm.run.selection"}

_CPF = (
    "cpf-cora",
    "cpf-citeseer",
    "cpf-pubmed",
    "amazon-computers",
    "amazon-photo",
    "academic-cs",
    "academic-physics",
)

datasets: Registry[Any] = Registry(
    "dataset",
    "dgl_rbm.data",
    {
        **_same("digits", "synthetic"),
        **dict.fromkeys(("cora", "citeseer", "pubmed"), "planetoid"),
        **dict.fromkeys(_CPF, "cpf"),
        "ogb": "ogb",
        **_same("file", "csv", "npz"),
    },
)
teachers: Registry[Any] = Registry(
    "teacher", "dgl_rbm.teachers", _same("sage", "gcn", "appnp", "mlp", "average", "logits", "none")
)
encoders: Registry[Any] = Registry(
    "encoder",
    "dgl_rbm.encoders",
    _same("none", "deepwalk", "spectral", "diffusion", "label_propagation", "label_histogram", "soft_labels")
    | _same("correct_and_smooth")
    | _AUTO,
)
regularizers: Registry[Any] = Registry(
    "regularizer",
    "dgl_rbm.regularizers",
    _same("none", "krd", "edge_consistency", "similarity", "adversarial", "pseudo_labels"),
)
students: Registry[Any] = Registry(
    "student", "dgl_rbm.students", _same("mlp", "ensemble", "moe", "rbm", "readout") | _AUTO
)

# Sizes of a student whose teacher has none, or that has no teacher.
DEFAULT_WIDTH, DEFAULT_DEPTH = 128, 2

# Components of a run by default.
DEFAULTS = {
    "dataset": "digits",
    "teacher": "sage",
    "student": "rbm",
    "encoder": "auto",
    "regularizer": "krd",
}

REGISTRIES: dict[str, Registry[Any]] = {
    registry.what: registry for registry in (datasets, teachers, encoders, regularizers, students)
}

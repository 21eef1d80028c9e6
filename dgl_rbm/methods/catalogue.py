"""Methods read from their YAML files, with the published settings by dataset, as plain configuration values."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Any, Literal

from pydantic import Field, field_validator

from dgl_rbm.config import StrictConfig, validated
from dgl_rbm.errors import UnknownNameError
from dgl_rbm.methods.published import PublishedSettings, encoder_options, find_settings, regularizer_options
from dgl_rbm.registry import DEFAULTS
from dgl_rbm.specs import combined_teacher
from dgl_rbm.yaml_files import parse_yaml

__all__ = ["Method", "PublishedResults", "RecipeName", "load_method", "merged", "method_names"]

RecipeName = Literal["published", "default"]

_SECTIONS = ("teacher", "student", "encoder", "regularizer", "objective", "training")


class PublishedResults(StrictConfig):
    """Place of a method in the tables of the RbM paper."""

    table: str = Field(description="Table of the RbM paper.")
    method: str = Field(description="Name of the method in the table of published results.")


class Method(StrictConfig):
    """A published method or one of this package: its components, its source, and departures from the paper."""

    name: str = Field(description="Name on the command line, and of the file.")
    title: str = Field(description="Name in the paper.")
    summary: str = Field(description="One-sentence description.")
    paper: str = Field(description="Publication.")
    source: str = Field(description="Source of the settings.")
    departures: list[str] = Field(min_length=1, description="Differences from the paper, with reasons.")
    extends: str | None = Field(default=None, description="Method whose components this one inherits.")
    student_family: Literal["mlp", "moe", "rbm"] | None = Field(
        default=None, description="Student family whose published settings apply; null for none."
    )
    published: PublishedResults | None = Field(
        default=None, description="Published results of the method; null for a method of this package."
    )
    components: dict[str, Any] = Field(description="Component values, as in a configuration file.")

    @field_validator("components")
    @classmethod
    def _known_sections(cls, components: dict[str, Any]) -> dict[str, Any]:
        for name in components:
            if name not in _SECTIONS:
                raise ValueError(f"'{name}' is not a section of a method; choices: {', '.join(_SECTIONS)}")
        return components

    def values(
        self,
        dataset: str | None = None,
        setting: str = "transductive",
        recipe: RecipeName = "published",
        *,
        teacher: str | None = None,
    ) -> dict[str, Any]:
        """Return the method as nested plain values of a configuration.

        Parameters
        ----------
        dataset : str, optional
            Name of the dataset, to look up the published settings.
        setting : {"transductive", "inductive"}
            Published settings differ between the two.
        recipe : {"published", "default"}
            ``"published"`` applies the dataset's published settings, if there are any, on top of the package defaults;
            ``"default"`` applies the defaults only.
        teacher : str, optional
            Replaces the method's teacher, also in the lookup of published settings; names joined by ``+`` stand for
            the average of several teachers. A method without a teacher stays without one.

        Returns
        -------
        dict
            ``teacher``, ``student``, ``encoder`` and ``regularizer`` with a ``kind`` each (the latter two are lists of
            these), ``objective`` and ``training``; with published settings also ``dataset``, the graph with its
            published options.
        """
        result: dict[str, Any] = {name: _with_kind(name, value) for name, value in self.components.items()}
        if teacher is not None and result["teacher"]["kind"] not in ("none", teacher):
            result["teacher"] = _with_kind("teacher", combined_teacher(teacher))
        if recipe == "published" and self.student_family is not None:
            kind = result["teacher"]["kind"]
            row = find_settings(dataset, setting, kind, self.student_family)
            # Without a teacher, or with one that the paper does not use, take the settings for the default teacher.
            row = row or find_settings(dataset, setting, DEFAULTS["teacher"], self.student_family)
            # All methods share one teacher, although the published code tunes it again for four rows of mixtures.
            shared = find_settings(dataset, setting, kind, "mlp")
            if row is not None:
                result = _with_recipe(result, row, shared) | {"dataset": {"kind": dataset, **row.dataset_values()}}
        return result


def _with_kind(name: str, value: Any) -> Any:
    if name in ("objective", "training"):
        return merged({}, value)
    if name in ("encoder", "regularizer"):
        parts = value if isinstance(value, list) else [value]
        return [_with_kind("", part) for part in parts]
    return {"kind": value} if isinstance(value, str) else merged({}, value)


def _with_recipe(values: dict[str, Any], row: PublishedSettings, shared: PublishedSettings | None) -> dict[str, Any]:
    """Fill in the published sizes and weights of the components in the method's file."""
    published: dict[str, Any] = {
        "student": row.student_values(),
        "objective": row.objective_values(),
        "training": row.training_values(),
    }
    if shared is not None:
        published["teacher"] = shared.teacher_values()
    result = merged(published, values)
    result["encoder"] = [merged(encoder_options(row, part["kind"]), part) for part in values["encoder"]]
    result["regularizer"] = [merged(regularizer_options(row, part["kind"]), part) for part in values["regularizer"]]
    return result


def merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Merge two nested mappings; values of `over` take precedence, and neither argument is modified.

    A component of another ``kind`` replaces the one in `base` with all its options.
    """
    result = {key: merged({}, value) if isinstance(value, Mapping) else value for key, value in base.items()}
    for key, value in over.items():
        old = result.get(key)
        if isinstance(value, Mapping):
            same = isinstance(old, Mapping) and value.get("kind", old.get("kind")) == old.get("kind", value.get("kind"))
            result[key] = merged(old if same and isinstance(old, Mapping) else {}, value)
        else:
            result[key] = value
    return result


_SUFFIX = ".yaml"


def method_names() -> list[str]:
    """Return the names of all methods in alphabetical order."""
    found = (file.name for file in files(__package__).iterdir())
    return sorted(name.removesuffix(_SUFFIX) for name in found if name.endswith(_SUFFIX))


def load_method(name: str) -> Method:
    """Load a method by name.

    Raises
    ------
    UnknownNameError
        If there is no such method; the message suggests the closest name.
    """
    if not isinstance(name, str) or name not in method_names():
        raise UnknownNameError(
            "method", name, method_names(), hint="`dgl-rbm components method` describes each of them."
        )
    return _load(name)


@cache
def _load(name: str) -> Method:
    own = parse_yaml(files(__package__).joinpath(name + _SUFFIX).read_text(encoding="utf-8"), f"The method '{name}'")
    values = own
    if own.get("extends") is not None:
        inherited = load_method(own["extends"]).model_dump(exclude={"extends"})
        values = merged(inherited, own)
        values["departures"] = [*inherited["departures"], *own.get("departures", [])]
    return validated(Method, values, where=f"methods/{name}{_SUFFIX}")

"""Reads the YAML files of methods and turns a method into the values that a configuration is resolved from."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Any, Literal

import yaml
from pydantic import Field, field_validator

from dgl_rbm.config import StrictConfig, validated
from dgl_rbm.errors import UnknownNameError
from dgl_rbm.methods.recipes import Recipe, encoder_options, find_recipe
from dgl_rbm.registry import DEFAULTS

__all__ = ["Method", "PublishedResults", "RecipeName", "load_method", "merged", "method_names"]

RecipeName = Literal["published", "default"]

_SECTIONS = ("teacher", "student", "encoder", "regularizer", "objective", "training")


class PublishedResults(StrictConfig):
    """Where the paper's tables have the method."""

    table: str = Field(description="Table of the RbM paper.")
    method: str = Field(description="Name of the method in the table of published results.")


class Method(StrictConfig):
    """A method, published or the package's own: its components, where it comes from, what is done otherwise here."""

    name: str = Field(description="Word on the command line; the file is called like it.")
    title: str = Field(description="Name in its paper.")
    summary: str = Field(description="What it is, in a sentence.")
    paper: str = Field(description="Where it was published.")
    source: str = Field(description="Where the settings here come from.")
    departures: list[str] = Field(min_length=1, description="What is done otherwise than in the paper, and why.")
    extends: str | None = Field(default=None, description="Method that the components are taken from.")
    recipe: Literal["mlp", "moe", "rbm"] | None = Field(
        default=None, description="Family of students whose published settings apply; null where there are none."
    )
    published: PublishedResults | None = Field(
        default=None, description="The published results of the method; null for one of this package's own."
    )
    components: dict[str, Any] = Field(description="Component values, as in a configuration file.")

    @field_validator("components")
    @classmethod
    def _known_sections(cls, components: dict[str, Any]) -> dict[str, Any]:
        for name in components:
            if name not in _SECTIONS:
                raise ValueError(f"'{name}' is no part of a method; expected some of {', '.join(_SECTIONS)}")
        return components

    def values(
        self,
        dataset: str | None = None,
        setting: str = "transductive",
        recipe: RecipeName = "published",
        *,
        teacher: str | None = None,
    ) -> dict[str, Any]:
        """Return nested plain values for `dgl_rbm.run.config.resolve_config`.

        Parameters
        ----------
        dataset : str, optional
            Name of the dataset, by which the published settings are found.
        setting : {"transductive", "inductive"}
            The published settings differ between the two.
        recipe : {"published", "default"}
            The published settings where there are some for the dataset, else the package's own defaults; or these
            in any case.
        teacher : str, optional
            Teacher in place of the method's, for which the published settings are then looked up; names joined by
            ``+`` stand for the average of several. A method without a teacher keeps none.

        Returns
        -------
        dict
            ``teacher``, ``student``, ``encoder`` and ``regularizer`` with a ``kind`` each (``encoder`` is a list of
            these), ``objective`` and ``training``.
        """
        result: dict[str, Any] = {name: _with_kind(name, value) for name, value in self.components.items()}
        if teacher is not None and result["teacher"]["kind"] not in ("none", teacher):
            # Here, since the names of methods are asked for by commands that load no torch.
            from dgl_rbm.specs import combined_teacher

            result["teacher"] = _with_kind("teacher", combined_teacher(teacher))
        if recipe == "published" and self.recipe is not None:
            kind = result["teacher"]["kind"]
            row = find_recipe(dataset, setting, kind, self.recipe)
            # Without a teacher, or with one that the paper does not use, the students of the default one come nearest.
            row = row or find_recipe(dataset, setting, DEFAULTS["teacher"], self.recipe)
            # One teacher for all methods: the published code tunes it anew for four rows of mixtures.
            shared = find_recipe(dataset, setting, kind, "mlp")
            if row is not None:
                result = _with_recipe(result, row, shared)
        return result


def _with_kind(name: str, value: Any) -> Any:
    if name in ("objective", "training"):
        return merged({}, value)
    if name == "encoder":
        parts = value if isinstance(value, list) else [value]
        return [_with_kind("", part) for part in parts]
    return {"kind": value} if isinstance(value, str) else merged({}, value)


def _with_recipe(values: dict[str, Any], row: Recipe, shared: Recipe | None) -> dict[str, Any]:
    """Fill in the published sizes and weights of the parts that the method's file names."""
    published: dict[str, Any] = {
        "student": row.student_values(),
        "objective": row.objective_values(),
        "training": row.training_values(),
    }
    if shared is not None:
        published["teacher"] = shared.teacher_values()
    if values["regularizer"]["kind"] == "krd":
        published["regularizer"] = row.krd_values()
    result = merged(published, values)
    objective = values.get("objective", {})
    if "similarity" in objective:
        result["objective"]["similarity"] = merged(objective["similarity"], row.similarity_values())
    if "adversarial" in objective:
        result["objective"]["adversarial"] = merged(objective["adversarial"], row.adversarial_values())
    result["encoder"] = [merged(encoder_options(row, part["kind"]), part) for part in values["encoder"]]
    return result


def merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Return `base` with the values of `over` put in, mapping by mapping; neither is changed.

    A component of another ``kind`` takes the place of the one in `base`, options and all.
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
    """Return the names of all methods, sorted."""
    found = (file.name for file in files(__package__).iterdir())
    return sorted(name.removesuffix(_SUFFIX) for name in found if name.endswith(_SUFFIX))


@cache
def load_method(name: str) -> Method:
    """Return a method by its name.

    Raises
    ------
    UnknownNameError
        Where there is none of that name; it names the nearest one.
    """
    if name not in method_names():
        raise UnknownNameError(
            "method", name, method_names(), hint="`dgl-rbm components method` describes each of them."
        )
    own = yaml.safe_load(files(__package__).joinpath(name + _SUFFIX).read_text(encoding="utf-8"))
    values = own
    if own.get("extends") is not None:
        inherited = load_method(own["extends"]).model_dump(exclude={"extends"})
        values = merged(inherited, own)
        values["departures"] = [*inherited["departures"], *own.get("departures", [])]
    return validated(Method, values, where=f"methods/{name}{_SUFFIX}")

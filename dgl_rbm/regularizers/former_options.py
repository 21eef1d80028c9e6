"""Losses that former configurations have under ``objective``, as entries of the list of regularizers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dgl_rbm.errors import ConfigError
from dgl_rbm.registry import regularizers
from dgl_rbm.specs import kind_of, list_components

__all__ = ["with_former_terms"]

# Section of `objective`, which is also the regularizer's name, to the option that was 0 if it was switched off.
_SWITCHES = {"similarity": "weight", "adversarial": "weight", "pseudo_labels": "rounds"}


def with_former_terms(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return a configuration's values with the losses under ``objective`` moved to ``regularizer``.

    Parameters
    ----------
    values : mapping
        Option to value, with ``regularizer``; ``objective`` may hold ``similarity``, ``adversarial`` and
        ``pseudo_labels``, as configurations of version 0.1.0 do. Those that are switched off are left out.

    Raises
    ------
    ConfigError
        If a section has a wrong option, or its regularizer is in the list already.
    """
    objective = values.get("objective")
    if not isinstance(objective, Mapping) or not _SWITCHES.keys() & objective.keys():
        return dict(values)
    parts = list_components(values["regularizer"])
    for name, switch in _SWITCHES.items():
        section = objective.get(name)
        if section is None:
            continue
        if not isinstance(section, Mapping):
            raise ConfigError(f"objective.{name}: expected a mapping.", hint=f"Use --regularizer {name}.")
        if any(kind_of(part) == name for part in parts):
            raise ConfigError(
                f"objective.{name}: '{name}' is a regularizer of this configuration, which has its options.",
                hint=f"Set them there, such as --set regularizer.{[kind_of(part) for part in parts].index(name)}."
                f"{switch}={section.get(switch, 1)}.",
            )
        if section.get(switch):
            parts.append({"kind": name, **section})
        else:
            # Off, but a misspelt option is an error all the same.
            regularizers.resolve({"kind": name, **{key: value for key, value in section.items() if key != switch}})
    if len(parts) > 1:
        parts = [part for part in parts if kind_of(part) != "none"]
    kept = {name: value for name, value in objective.items() if name not in _SWITCHES}
    return {**values, "regularizer": parts, "objective": kept}

"""The reader of YAML: plain values within limits, errors that name the line, and no other exception."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st

from dgl_rbm.config import apply_overrides, read_yaml
from dgl_rbm.errors import ConfigError, command, shown
from dgl_rbm.experiments.tuning.space import as_space
from dgl_rbm.run.config import resolve_config
from dgl_rbm.specs import with_overrides
from dgl_rbm.yaml_files import parse_yaml

BOMB = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{i}: &a{i} [{', '.join(9 * [f'*a{i - 1}'])}]\n" for i in range(1, 10)
)
MERGE_BOMB = "a0: &a0 {x: 1}\n" + "".join(
    f"a{i}: &a{i} {{<<: [{', '.join(9 * [f'*a{i - 1}'])}]}}\n" for i in range(1, 10)
)


def parsed(text: str) -> Any:
    return parse_yaml(text, "The file 'x.yaml'")


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("a: 1\nb: 2\na: 3\n", "line 3, column 1, is not valid YAML: the key 'a' stands in line 1 already"),
        ("a:\n  b: 1\n  'b': 2\n", "line 3, column 3, is not valid YAML: the key 'b' stands in line 2 already"),
        ("{a: 1, a: 1}", "the key 'a' stands in line 1 already"),
        (BOMB, "more than 20,000 values, aliases expanded"),
        (MERGE_BOMB, "more than 20,000 values, aliases expanded"),
        ("a: &a [*a]\n", "a value refers to itself"),
        ("a: &a {b: {c: *a}}\n", "a value refers to itself"),
        (f"seed: {'9' * 5000}\n", "a number has 5,000 characters, more than 40"),
        (f"seed: 0x{'f' * 5000}\n", "a number has 5,002 characters"),
        ("[" * 100_000, "nested deeper than 20 levels"),
        ("- " * 30 + "a", "nested deeper than 20 levels"),
        ("a: " + "{a: " * 30, "nested deeper than 20 levels"),
        ("1: a\n", "the key '1' is no text; quote it"),
        ("on: a\n", "the key 'on' is no text"),
        ("null: a\n", "the key 'null' is no text"),
        ("2026-12-01: a\n", "the key '2026-12-01' is no text"),
        ("[a, b]: 1\n", "the key a list or mapping is no text"),
        ("a: 2026-13-45\n", "month must be in 1..12"),
        ("a: !!python/object/apply:os.system [ls]\n", "the tag 'tag:yaml.org,2002:python/object/apply:os.system'"),
        ("a: !!binary aGk=\n", "the tag 'tag:yaml.org,2002:binary' is not supported"),
        ("a: !!set {b, c}\n", "the tag 'tag:yaml.org,2002:set' is not supported"),
        ("!own a\n", "the tag '!own' is not supported"),
        ("a: !!int ''\n", "'' is no number"),
        ("a: !!float x\n", "'x' is no number"),
        ("a: !!bool 3\n", "'3' is neither true nor false"),
        ("a: !!str {b: 1}\n", "not valid YAML"),
        ("a: b\x00c\n", r"the character '\x00' at position 4 is not allowed"),
        ("a:\n\tc: 1\n", "line 2, column 1, is not valid YAML"),
        ("a: 1\n---\nb: 2\n", "line 2, column 1, is not valid YAML"),
        ("a: *nowhere\n", "undefined alias"),
        ('a: "\\UFFFFFFFF"\n', "not valid YAML"),
        ("a" * (2**20 + 1), "has 1,048,577 characters"),
        ("- a\n" * 30_000, "more than 20,000 values"),
    ],
)
def test_what_is_no_configuration_is_refused_at_once(text: str, part: str) -> None:
    start = time.perf_counter()
    with pytest.raises(ConfigError) as caught:
        parsed(text)
    assert "The file 'x.yaml'" in str(caught.value)
    assert part in str(caught.value)
    assert len(str(caught.value)) < 400
    assert time.perf_counter() - start < 20


def test_plain_values_are_read_as_by_pyyaml() -> None:
    text = (
        "base: &base {lr: 0.1, epochs: 3}\nmine: {<<: *base, epochs: 5}\ntwice: {<<: [*base, {lr: 2, x: ~}]}\n"
        "again: {<<: *base, lr: 7}\nlist: [1, -2.5, .inf, true, null, 0x10, 'on', 1e-3]\nempty:\n'1': quoted\n"
        "second: {<<: {<<: *base, lr: 9}, epochs: 1}\n"
    )
    assert parsed(text) == yaml.safe_load(text)
    assert parsed("day: 2026-12-01") == {"day": "2026-12-01"}, "options are no dates"
    assert parsed("") is None


def test_files_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    path = tmp_path / "a file.yaml"
    with pytest.raises(ConfigError) as caught:
        read_yaml(path)
    assert caught.value.hint == f"`dgl-rbm init '{path}'` writes one."
    with pytest.raises(ConfigError, match="is a folder; expected a file"):
        read_yaml(tmp_path)
    path.write_bytes(b"a: \xff\n")
    with pytest.raises(ConfigError, match="is not UTF-8 text: invalid start byte at byte 3"):
        read_yaml(path)
    path.write_bytes(b"# " + b"x" * 2**20)
    with pytest.raises(ConfigError, match="more than 1,048,576 bytes"):
        read_yaml(path)
    path.write_bytes("\ufeffa: 1\n".encode())
    assert read_yaml(path) == {"a": 1}, "with the mark that Windows editors write"


def test_commands_are_quoted_for_a_shell() -> None:
    assert command("predict", Path("my run"), "$(rm)") == "dgl-rbm predict 'my run' '$(rm)'"
    assert command("evaluate", Path("-run")) == "dgl-rbm evaluate ./-run"


def test_shown_values_are_short() -> None:
    assert shown("a") == "'a'"
    assert len(shown("x" * 1000)) == 80
    assert shown(10**5000) == "a number of more than 4,300 digits"


def outcome(function: Callable[[Any], Any], given: Any) -> Any:
    """Return what `function` makes of `given`; None if it raises a ConfigError that can be read."""
    try:
        return function(given)
    except ConfigError as error:
        if len(str(error)) > 10_000:
            raise AssertionError("The message is too long to be read.") from error
        return None


PIECES = st.sampled_from(
    [
        *("a", "seed", "student", "kind", "rbm", "teacher", "encoder", "training", "objective", "regularizer"),
        *(
            ": ",
            ":",
            "\n",
            "\n  ",
            "- ",
            "[",
            "]",
            "{",
            "}",
            ", ",
            "&a ",
            "*a",
            "<<: ",
            "? ",
            "| ",
            "> ",
            "\t",
            "'",
            '"',
        ),
        *(
            "!!int ",
            "!!python/name:os.system ",
            "!!set ",
            "! ",
            "%YAML 1.1\n",
            "--- ",
            "...",
            "#",
            "\x00",
            "\ud800",
            "\\U",
        ),
        *(
            "1",
            "-0",
            "1e999",
            ".nan",
            "-.inf",
            "9" * 5000,
            "0o7",
            "0x_",
            "1:30",
            "2026-02-30",
            "~",
            "on",
            "é",
            "\u2028",
        ),
    ]
)


@settings(max_examples=400, deadline=None)
@given(st.lists(PIECES, max_size=14).map("".join))
@example("a: &a [*a]")
def test_generated_text_ends_in_a_value_or_a_config_error(text: str) -> None:
    values = outcome(parsed, text)
    if isinstance(values, dict):
        outcome(resolve_config, values)
        outcome(as_space, values)
    for assignment in (text, f"student.x={text}", f"encoder.0={text}", f"{text}=1", f"training.epochs={text}"):
        outcome(lambda given: resolve_config(with_overrides({}, [given])), assignment)


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.just(5000).map(lambda digits: 10**digits)
    | st.floats()
    | st.sampled_from(["rbm", "sage", "none", "auto", "krd+krd", "", "a.b", "digits", "\x00", "x" * 5000, "\ud800"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["kind", "path", "num_experts", "epochs", "members", "candidates", "lr", "training"]),
            inner,
            max_size=3,
        )
    ),
    max_leaves=6,
)
OPTIONS = ("dataset", "teacher", "student", "encoder", "regularizer", "objective", "training", "seed", "device", "x")


@settings(max_examples=300, deadline=None)
@given(st.dictionaries(st.sampled_from(OPTIONS), VALUES, max_size=3))
def test_generated_values_are_resolved_or_refused(values: dict[str, Any]) -> None:
    outcome(resolve_config, values)
    outcome(as_space, values)
    outcome(lambda given: apply_overrides(given, ["student.num_experts=3"]), values)

"""Engines are found by name through entry points; what is wrong with one never hides the others."""

from __future__ import annotations

from importlib.metadata import EntryPoint
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import msgspec
import pytest

from xinfer import engines
from xinfer.engines import Settings, typed
from xinfer.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable

BUILT_IN = {"llama_cpp", "mlx", "sglang", "transformers", "vllm"}


def test_the_five_are_registered() -> None:
    """They use the same door as everybody else's."""
    assert set(engines.registered()) >= BUILT_IN
    assert all(isinstance(entry, EntryPoint) for entry in engines.registered().values())
    usable, broken = engines.load(BUILT_IN)
    assert (set(usable), broken) == (BUILT_IN, {})


def test_an_adapter_is_made_once() -> None:
    """Asking again is free."""
    assert engines.get("vllm") is engines.get("vllm")


def test_an_unknown_engine_is_named_with_the_nearest() -> None:
    """And with all there are."""
    known = ", ".join(sorted(BUILT_IN))
    with pytest.raises(ConfigError, match=f"^engine 'vlm' is not registered; registered: {known}; did you mean 'vllm'"):
        engines.get("vlm")


def test_a_plugin_of_somebody_elses_is_found(fake_plugin: Path) -> None:
    """By its entry point alone; two that are broken do not hide it."""
    usable, broken = engines.load(["fake", "nobody"])
    assert set(usable) == {*BUILT_IN, "fake"}
    assert usable["fake"].conf in engines.conf_directories()
    assert usable["fake"].conf.is_relative_to(fake_plugin.parent)
    assert broken == {
        "absent": "ModuleNotFoundError: No module named 'fake_plugin_absent'",
        "partial": "TypeError: the adapter has no title, port, conf, plan",
        "nobody": "no plugin is installed",
    }


@pytest.mark.parametrize(
    ("names", "seen"),
    [
        pytest.param("vllm", {"vllm"}, id="one"),
        pytest.param(" vllm , mlx ", {"vllm", "mlx"}, id="spaces"),
        pytest.param("nobody", set(), id="none-that-is-there"),
        pytest.param("", set(), id="none"),
    ],
)
def test_the_variable_limits_what_is_seen(visible_engines: Callable[[str], None], names: str, seen: set[str]) -> None:
    """What is left out is said to be so."""
    visible_engines(names)
    usable, broken = engines.load(BUILT_IN)
    assert set(usable) == seen
    assert broken == dict.fromkeys(BUILT_IN - seen, "no plugin is installed (XINFER_ENGINES leaves it out)")


def test_a_plugin_without_a_folder_brings_no_files(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """It must not keep the others' from being found."""
    monkeypatch.setattr(engines.get("mlx"), "conf", tmp_path / "nowhere", raising=False)
    assert len(engines.conf_directories()) == len(BUILT_IN) - 1


class Mine(Settings, frozen=True, kw_only=True):
    speed: Literal["slow", "fast"] | None = None
    lanes: int = 1
    share: float = 0.5
    loud: bool = False


@pytest.mark.parametrize(
    ("node", "said"),
    [
        pytest.param({"spede": 1}, "engine has no key 'spede'; did you mean 'speed'?", id="a-misspelt-key"),
        pytest.param(
            {"x": 1},
            "engine has no key 'x'; its keys are name, version, python, args, env, speed, lanes, share, loud",
            id="a-key-like-none",
        ),
        pytest.param(
            {"speed": "fats"},
            "engine.speed: invalid enum value 'fats'; it takes slow, fast; did you mean 'fast'?",
            id="a-misspelt-word",
        ),
        pytest.param({"lanes": "2"}, "engine.lanes: expected a whole number, got text", id="a-text-for-a-number"),
        pytest.param({"lanes": 2.5}, "engine.lanes: expected a whole number, got a number", id="a-fraction"),
        pytest.param({"share": None}, "engine.share: expected a number, got null", id="null-where-there-is-none"),
        pytest.param({"loud": 1}, "engine.loud: expected true or false, got a whole number", id="a-number-for-a-flag"),
        pytest.param({"args": [1]}, "engine.args: expected a mapping, got a list", id="a-list-for-a-mapping"),
        pytest.param({"version": 1.5}, "engine.version: expected text or null, got a number", id="a-number-for-a-text"),
    ],
)
def test_settings_are_typed(node: dict[str, Any], said: str) -> None:
    """What is wrong is said with the key, in words that are not Python's."""
    with pytest.raises(ConfigError) as caught:
        typed({"name": "mine", **node}, Mine, "engine")
    assert str(caught.value) == said


def test_settings_that_are_no_mapping() -> None:
    """The node itself is named."""
    with pytest.raises(ConfigError, match=r"^engine: expected a mapping, got a whole number$"):
        typed(3, Mine, "engine")


def test_numbers_stay_what_they_were() -> None:
    """A 4 must not reach an engine's environment as 4.0."""
    found = typed({"name": "mine", "env": {"A": 4, "B": 0.5, "C": "x"}, "share": 1}, Mine, "engine")
    assert msgspec.to_builtins(found)["env"] == {"A": 4, "B": 0.5, "C": "x"}
    assert isinstance(found.env["A"], int)

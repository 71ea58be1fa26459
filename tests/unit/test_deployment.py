"""What all artefacts say and ask for alike."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xinfer.deploying.deployment import Deployment, check_linux, comments, gpus, memory_gib, name
from xinfer.deploying.recipe import Recipe
from xinfer.errors import ConfigError
from xinfer.facts import Gpu, Hardware
from xinfer.plan import LaunchPlan, Memory


def deployment(*argv: str, launch: dict[str, Any] | None = None, **fields: Any) -> Deployment:
    plan = LaunchPlan(engine="e", version="1", variant="cuda", argv=argv, **{"device": "gpu", **(launch or {})})
    return Deployment(launch=plan, **{"hardware": Hardware(profile="h", gpus=4, gpu=Gpu(vendor="nvidia")), **fields})


@pytest.mark.parametrize(
    ("family", "label"),
    [
        pytest.param("qwen2-instruct", "xinfer-qwen2-instruct", id="a-family"),
        pytest.param("llama-3.1-instruct", "xinfer-llama-3-1-instruct", id="a-dot-is-no-letter-of-a-label"),
        pytest.param("My Model (v2)", "xinfer-my-model-v2", id="what-somebody-calls-a-file"),
        pytest.param("模型", "xinfer", id="no-letter-of-a-label-at-all"),
        pytest.param("a" * 49 + "-b" * 40, f"xinfer-{'a' * 49}", id="no-longer-than-a-label-and-no-dash-at-its-end"),
    ],
)
def test_the_name(family: str, label: str) -> None:
    """It is a label of the domain name system, whatever the model is called."""
    assert name(deployment(family=family)) == label


@given(st.text())
def test_every_name_is_a_label(family: str) -> None:
    """Whatever the model is called."""
    assert re.fullmatch(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", name(deployment(family=family)))


@pytest.mark.parametrize(
    ("argv", "flags", "count"),
    [
        pytest.param((), None, 4, id="all-that-it-sees"),
        pytest.param((), (), 1, id="one-of-several"),
        pytest.param((), ("--tp", "--pp"), 1, id="one-unless-it-is-split"),
        pytest.param(("--tp", "2"), ("--tp", "--pp"), 2, id="as-many-as-share-a-layer"),
        pytest.param(("--tp", "2", "--pp", "3"), ("--tp", "--pp"), 6, id="times-the-stages"),
        pytest.param(("--tp", "auto"), ("--tp",), 1, id="a-word-counts-nothing"),
        pytest.param(("--tp",), ("--tp",), 1, id="a-flag-without-its-value"),
        pytest.param(("--model", "2"), ("--tp",), 1, id="another-flags-value"),
    ],
)
def test_the_gpus(argv: tuple[str, ...], flags: tuple[str, ...] | None, count: int) -> None:
    """As many are asked for as the flags say that the server uses."""
    assert gpus(deployment("engine", *argv, recipe=Recipe(gpu_flags=flags))) == count


def test_a_cpus_server_uses_no_gpu() -> None:
    """Though the machine may have some."""
    assert gpus(deployment(launch={"device": "cpu"})) == 0


def test_a_machine_of_unknown_gpus_has_one() -> None:
    """A plan for a GPU needs it."""
    assert gpus(deployment(hardware=Hardware(profile="h"))) == 1


@pytest.mark.parametrize(
    ("device", "total", "asked"),
    [
        pytest.param("cpu", 7.2, (8, 9), id="the-estimate-and-a-quarter-more"),
        pytest.param("cpu", 8.0, (8, 10), id="in-whole-gib"),
        pytest.param("cpu", None, None, id="not-known"),
        pytest.param("gpu", 7.2, None, id="the-estimate-is-of-the-gpus-memory"),
    ],
)
def test_the_main_memory(device: str, total: float | None, asked: tuple[int, int] | None) -> None:
    """It is asked for where it was estimated, and nowhere else."""
    assert memory_gib(deployment(launch={"device": device, "memory": Memory(total_gib=total)})) == asked


@pytest.mark.parametrize(("system", "named"), [("darwin", "macOS"), ("windows", "Windows")])
def test_a_plan_for_another_system(system: Any, named: str) -> None:
    """It is refused in one line that says what there is instead."""
    said = f"^format=slurm: this plan is for {named}, and that is for Linux; say format=shell, or hw=$"
    with pytest.raises(ConfigError, match=said):
        check_linux(deployment(hardware=Hardware(profile="h", os=system)), "slurm")


@pytest.mark.parametrize("system", ["linux", None])
def test_a_plan_for_linux(system: Any) -> None:
    """A system that is not known is not refused."""
    check_linux(deployment(hardware=Hardware(profile="h", os=system)), "slurm")


def test_the_comments() -> None:
    """Command, names, reasons, those that differ here, what is about the file, and the plan's notes."""
    launch = {"because": {"--host": "loopback", "--b": "B"}, "notes": ("slow",)}
    made = deployment(launch=launch, typed=("hw=cpu", "model.path=/a b"), about={"engine": "E 1"})
    assert list(comments(made, {"image": "official"}, {"--host": "everywhere", "--absent": "never said"})) == [
        "# made by: xinfer plan hw=cpu 'model.path=/a b'",
        "# engine: E 1",
        "#",
        "# why each flag and variable is there:",
        "#   --host  everywhere",
        "#   --b     B",
        "#",
        "# about this file:",
        "#   image  official",
        "#",
        "# note: slow",
    ]


def test_comments_of_a_plan_that_has_nothing_to_say() -> None:
    """No heading stands above nothing."""
    assert list(comments(deployment(), {}, {}))[-1] == "# why each flag and variable is there:"


@given(st.text())
def test_a_comment_stays_one(text: str) -> None:
    """Nothing in it ends its line, or makes the next one part of it, in any of the formats."""
    launch = {"because": {"--a": text}, "notes": (text,)}
    made = deployment(launch=launch, typed=(text,), about={"model": text})
    for line in comments(made, {"image": text}, {}):
        assert line.startswith("#")
        assert len(line.splitlines()) == 1
        assert not line.endswith("\\")

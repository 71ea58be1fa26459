"""What may be tuned: what plugins declare, what a user makes of it, and what of it has an effect here."""

from __future__ import annotations

from typing import Any

import pytest

from xinfer import engines, flow
from xinfer.config.document import read
from xinfer.config.pieces import Pieces
from xinfer.errors import ConfigError
from xinfer.planning import tunables
from xinfer.planning.tunables import Place, Tunable

WHY: dict[str, Any] = {"why": "it matters", "source": "a page"}
THREADS = Tunable(**WHY, least=1, most="cores", device="cpu")
SLOTS = Tunable(**WHY, least=1, most="concurrency")
CACHE = Tunable(**WHY, values=("q8_0",), lossy=True)
KNOWN = {"engine.threads": THREADS, "engine.slots": SLOTS, "engine.cache_type_k": CACHE}
CPU = Place(device="cpu", cores=6, concurrency=4)


def space(place: Place = CPU, *, fixed: tuple[str, ...] = (), lossy: bool = True) -> dict[str, Any]:
    return tunables.space(KNOWN, place, fixed=fixed, lossy=lossy)


def test_a_range_is_doubled_up_to_its_end() -> None:
    """The plan's own value comes first; the last is the end, whether it is a power of two or not."""
    found = space()
    assert found["engine.threads"] == (None, 1, 2, 4, 6)
    assert found["engine.slots"] == (None, 1, 2, 4)
    assert tunables.size(found) == 5 * 4 * 2


@pytest.mark.parametrize(
    ("options", "left"),
    [
        pytest.param({"place": Place(device="gpu", cores=6, concurrency=4)}, {"engine.slots", "engine.cache_type_k"},
                     id="what-has-no-effect-on-the-device"),
        pytest.param({"place": Place(device="cpu", cores=None, concurrency=1)}, {"engine.slots", "engine.cache_type_k"},
                     id="what-has-an-end-that-nobody-knows"),
        pytest.param({"fixed": ("engine.slots",)}, {"engine.threads", "engine.cache_type_k"}, id="what-was-typed"),
        pytest.param({"lossy": False}, {"engine.threads", "engine.slots"}, id="what-may-change-the-answers"),
    ],
)  # fmt: skip
def test_what_is_left_out(options: dict[str, Any], left: set[str]) -> None:
    """Nothing is tried that would tell nothing, or that the user has decided."""
    assert set(space(**options)) == left


def test_a_fixed_range_ends_where_it_says() -> None:
    """Numbers may be given instead of facts."""
    found = tunables.space({"engine.x": Tunable(**WHY, least=3, most=20)}, CPU, fixed=(), lossy=True)
    assert found == {"engine.x": (None, 3, 6, 12, 20)}


def test_a_user_may_change_the_space() -> None:
    """A list is what is tried, wherever it has an effect; null leaves a key alone; other keys may be added."""
    asked = {"engine": {"threads": [1, 3], "args": {"mmap": [True]}}, "dtype": ["bfloat16"], "engine.slots": None}
    found = tunables.space(tunables.chosen(KNOWN, asked), CPU, fixed=(), lossy=True)
    assert found == {
        "engine.threads": (None, 1, 3), "engine.cache_type_k": (None, "q8_0"), "engine.args.mmap": (None, True),
        "dtype": (None, "bfloat16"),
    }  # fmt: skip
    assert tunables.named(asked) == {"engine.threads", "engine.args.mmap", "dtype", "engine.slots"}


def test_a_user_may_leave_all_below_a_key_alone() -> None:
    """All flags of an engine at once; a key that only begins alike stays."""
    known = {key: Tunable(**WHY, values=(1,)) for key in ("engine.args.a", "engine.args.b", "engine.argsmax")}
    assert set(tunables.chosen(known, {"engine": {"args": None}})) == {"engine.argsmax"}


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        pytest.param({"engine": {"threads": 2}}, r"tune.space.engine.threads=2 is not a list of values", id="a-number"),
        pytest.param({"engine": {"threads": []}}, r"tune.space.engine.threads=\[\] is not a list", id="nothing"),
        pytest.param({"engine": {"threads": [[1]]}}, r"threads=\[\[1\]\] is not", id="a-list-of-lists"),
        pytest.param({"hw": {"cores": [1]}}, r"tune.space.hw.cores cannot be tuned; say", id="another-machine"),
    ],
)  # fmt: skip
def test_a_space_that_is_none(asked: dict[str, Any], said: str) -> None:
    """One line says what would be one."""
    with pytest.raises(ConfigError, match=said):
        tunables.chosen(KNOWN, asked)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        pytest.param({"engine.x": {"values": [1]}}, "x.yaml: engine.x: object missing required field why", id="no-why"),
        pytest.param({"engine.x": {**WHY}}, "x.yaml: engine.x needs either values, or least and most", id="no-domain"),
        pytest.param({"engine.x": {**WHY, "values": [1], "least": 1, "most": 2}}, "engine.x needs either", id="two"),
        pytest.param({"engine.x": {**WHY, "least": 1}}, "engine.x needs either", id="no-end"),
        pytest.param({"hw.cores": {**WHY, "values": [1]}}, "x.yaml: hw.cores cannot be tuned", id="no-setting"),
        pytest.param({"engine.x": {**WHY, "value": [1]}}, "has no key 'value'; did you mean 'values'", id="misspelt"),
    ],
)
def test_a_file_that_declares_nothing(body: dict[str, Any], said: str) -> None:
    """The file, the key and what it takes."""
    with pytest.raises(ConfigError, match=said):
        tunables.declared(body, "x.yaml")


def test_a_point_becomes_overrides() -> None:
    """What is the plan's own is not said; truth is written as Hydra reads it."""
    point = {"engine.threads": 2, "dtype": None, "engine.args.mmap": False, "engine.args.flash-attn": "on"}
    assert tunables.words(point) == ["engine.threads=2", "engine.args.mmap=false", "engine.args.flash-attn=on"]


@pytest.mark.parametrize("engine", ["llama_cpp", "mlx", "sglang", "transformers", "vllm"])
def test_what_our_plugins_declare_can_be_planned(engine: str) -> None:
    """Every value of every key makes a plan of its own, on the device for which it is declared."""
    composer = Pieces(engines.conf_directories())
    known = tunables.declared(read(engines.get(engine).conf / "tunables" / f"{engine}.yaml"), engine)
    seen = set()
    for hw, device in (("hw=cpu", "cpu"), ("hw=apple" if engine == "mlx" else "hw=h100", "gpu")):
        place = Place(device=device, cores=3, concurrency=3)
        for key, values in tunables.space(known, place, fixed=(), lossy=True).items():
            seen.add(key)
            words = [tunables.words({key: value}) for value in values[1:]]
            asks = [flow.ask(composer.compose([*base(engine, hw), *each]), composer) for each in words]
            made = [flow.plan(each, composer, compares=False) for each in asks]
            plans = {(each.launch and each.launch.argv, str(each.launch and each.launch.env)) for each in made}
            assert len(plans) == len(values) - 1, key
            assert all(each.launch and each.launch.device == device for each in made)
    assert seen == set(known)


def base(engine: str, hw: str) -> list[str]:
    return ["rules=engines-2026-11", f"engine={engine}", hw, "hw.cores=3", "workload.concurrency=3"]

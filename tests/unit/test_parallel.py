"""A network is split over as many GPUs as its heads allow, and no more."""

from __future__ import annotations

import re
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest

from xinfer import catalog
from xinfer.catalog import Shape
from xinfer.config.compose import conf_dir
from xinfer.errors import ConfigError
from xinfer.facts import Hardware
from xinfer.planning import parallel
from xinfer.planning.cache import Place
from xinfer.planning.parallel import Split, Splits

if TYPE_CHECKING:
    from xinfer.planning.parallel import Holds

QWEN2_7B = Shape(heads=28, kv_heads=4)


def test_qwen2_7b_splits_four_ways_and_no_others() -> None:
    """28 heads divide by 1, 2, 4, 7, 14 and 28; 4 key-value heads are divided or copied evenly over 1, 2, 4 and 28."""
    legal = [split for split in range(1, 29) if parallel.is_legal(QWEN2_7B, split)]
    assert legal == [1, 2, 4, 28]


@pytest.mark.parametrize(
    ("heads", "kv_heads", "split", "expected"),
    [
        pytest.param(32, 8, 8, True, id="one-kv-head-each"),
        pytest.param(32, 8, 16, True, id="each-kv-head-twice"),
        pytest.param(32, 8, 2, True, id="four-kv-heads-each"),
        pytest.param(32, 1, 8, True, id="one-kv-head-is-copied-to-all"),
        pytest.param(12, 2, 3, False, id="kv-heads-that-cannot-be-copied-evenly"),
        pytest.param(24, 8, 6, False, id="kv-heads-that-cannot-be-divided"),
        pytest.param(28, 4, 8, False, id="heads-that-cannot-be-divided"),
        pytest.param(52, None, 8, False, id="heads-decide-alone"),
        pytest.param(40, None, 8, None, id="kv-heads-are-not-known"),
        pytest.param(None, 8, 8, None, id="heads-are-not-known"),
        pytest.param(None, None, 1, True, id="one-gpu-always-will-do"),
    ],
)
def test_is_legal(heads: int | None, kv_heads: int | None, split: int, expected: bool | None) -> None:  # noqa: FBT001
    """Heads must divide evenly, key-value heads divide or be copied evenly; unknown heads are undecided."""
    assert parallel.is_legal(Shape(heads=heads, kv_heads=kv_heads), split) is expected


@pytest.mark.parametrize(
    ("shape", "gpus", "split", "why"),
    [
        pytest.param(QWEN2_7B, 1, 1, "one GPU", id="one-gpu"),
        pytest.param(QWEN2_7B, 4, 4, "all 4 GPUs; 28 heads and 4 kv heads split evenly", id="all-gpus"),
        pytest.param(
            QWEN2_7B, 8, 4,
            "28 heads and 4 kv heads do not split over 8 GPUs; 4 is the largest number that is known to be legal",
            id="four-of-eight",
        ),
        pytest.param(
            QWEN2_7B, 3, 2,
            "28 heads and 4 kv heads do not split over 3 GPUs; 2 is the largest number that is known to be legal",
            id="two-of-three",
        ),
        pytest.param(
            Shape(heads=9, kv_heads=3), 2, 1,
            "9 heads and 3 kv heads do not split over 2 GPUs; 1 is the largest number that is known to be legal",
            id="one-of-two",
        ),
        pytest.param(
            Shape(heads=52), 8, 1,
            "52 heads and unknown kv heads do not split over 8 GPUs; 1 is the largest number that is known to be legal",
            id="what-is-known-refuses",
        ),
        pytest.param(
            Shape(), 4, 1, "head counts not known; 1 is the largest number that is known to be legal",
            id="nothing-is-known",
        ),
        pytest.param(Shape(), 1, 1, "one GPU", id="nothing-needs-to-be-known-of-one"),
    ],
)  # fmt: skip
def test_tensor_parallel(shape: Shape, gpus: int, split: int, why: str) -> None:
    """The largest split that is known to be legal is chosen, with the reason in words."""
    assert parallel.tensor_parallel(shape, gpus) == (split, why)


WHOLE = Shape(heads=28, kv_heads=4, layers=28)
EVENLY = "28 heads and 4 kv heads split evenly over"
ODD = Shape(heads=9, kv_heads=3, layers=30)


@pytest.mark.parametrize(
    ("shape", "gpus", "expected"),
    [
        pytest.param(WHOLE, 1, Split(1, "one GPU"), id="one-gpu"),
        pytest.param(WHOLE, 4, Split(4, "all 4 GPUs; 28 heads and 4 kv heads split evenly"), id="no-stages-needed"),
        pytest.param(
            WHOLE, 8,
            Split(4, f"{EVENLY} 4", 2, "2 stages of 4 use 8 of 8 GPUs: one stage cannot"),
            id="two-stages-of-four",
        ),
        pytest.param(
            WHOLE, 6,
            Split(2, f"{EVENLY} 2", 3, "3 stages of 2 use 6 of 6 GPUs: one stage cannot"),
            id="rather-all-six-than-four",
        ),
        pytest.param(
            WHOLE, 7,
            Split(1, f"{EVENLY} 1", 7, "7 stages of 1 use 7 of 7 GPUs: one stage cannot"),
            id="a-stage-each",
        ),
        pytest.param(
            ODD, 4,
            Split(
                1, "9 heads and 3 kv heads split evenly over 1", 4, "4 stages of 1 use 4 of 4 GPUs: one stage cannot"
            ),
            id="three-would-leave-one-idle",
        ),
        pytest.param(
            Shape(heads=28, kv_heads=4, layers=1), 8,
            Split(4, parallel.tensor_parallel(QWEN2_7B, 8)[1]),
            id="too-few-layers",
        ),
        pytest.param(QWEN2_7B, 8, Split(4, parallel.tensor_parallel(QWEN2_7B, 8)[1]), id="layers-not-known"),
        pytest.param(Shape(layers=28), 4, Split(1, parallel.tensor_parallel(Shape(), 4)[1]), id="heads-not-known"),
    ],
)  # fmt: skip
def test_split(shape: Shape, gpus: int, expected: Split) -> None:
    """As many GPUs as can work do, with as few stages as that takes."""
    assert parallel.split(shape, gpus, in_stages=True) == expected


def test_a_network_that_cannot_be_dealt() -> None:
    """Where an engine cannot deal its layers, some GPUs stay idle."""
    assert parallel.split(WHOLE, 8, in_stages=False) == Split(4, parallel.tensor_parallel(WHOLE, 8)[1])


@pytest.mark.parametrize(
    ("cores", "asked", "expected"),
    [
        pytest.param(16, None, (15, "16 cores, of which the load client keeps one"), id="all-but-one"),
        pytest.param(1, None, (1, "one core, which the load client shares"), id="never-none"),
        pytest.param(None, None, (None, "the number of cores is not known"), id="not-known"),
        pytest.param(16, 16, (16, "engine.threads"), id="the-users-word"),
    ],
)
def test_free_threads(cores: int | None, asked: int | None, expected: tuple[int | None, str]) -> None:
    """A thread for each core but the client's, unless the user says otherwise."""
    assert parallel.free_threads(Hardware(profile="p", cores=cores), asked) == expected


def test_what_eight_gpus_refuse() -> None:
    """Of the networks of 2024 whose heads are known, these cannot be split over eight GPUs, and no others."""
    refused = {
        (family.family, size, shape.heads)
        for family in catalog.load(conf_dir() / "model").values()
        if not all(row.listed == ("2026-10",) for row in family.rows) or not family.rows
        for size, shape in family.shapes.items()
        if parallel.is_legal(shape, 8) is False
    }
    assert refused == {
        ("vicuna-v1.3", "33", 52),
        ("qwen1.5-chat", "4", 20),
        ("qwen2-instruct", "0_5", 14),
        ("qwen2-instruct", "1_5", 12),
        ("qwen2-instruct", "7", 28),
        ("qwen2-moe-instruct", "14", 28),
        ("smollm2-135m-instruct", "0_135", 9),
    }


# --- as few GPUs as hold it ---

LLAMA = Shape(architecture="LlamaForCausalLM", layers=32, heads=32, kv_heads=8, head_dim=128)
TENSORS = Splits(tensor=True)
BOTH = Splits(tensor=True, staged=frozenset({"LlamaForCausalLM"}))
LAYERS = Splits(staged=None)


def holding(gpus: int) -> Holds:
    """Return what says that so many GPUs are needed."""
    return lambda place: place.tensor * place.stages >= gpus


@pytest.mark.parametrize(
    ("shape", "splits", "gpus", "expected"),
    [
        pytest.param(QWEN2_7B, TENSORS, 4, [(1, 1), (2, 1), (4, 1)], id="three-is-not-legal"),
        pytest.param(
            LLAMA, BOTH, 4, [(1, 1), (2, 1), (1, 2), (1, 3), (4, 1), (2, 2), (1, 4)], id="fewest-stages-first"
        ),
        pytest.param(LLAMA, LAYERS, 3, [(1, 1), (1, 2), (1, 3)], id="layers-alone"),
        pytest.param(LLAMA, Splits(), 4, [(1, 1)], id="an-engine-of-one-gpu"),
        pytest.param(Shape(layers=2), LAYERS, 4, [(1, 1), (1, 2)], id="no-more-stages-than-layers"),
        pytest.param(Shape(), LAYERS, 4, [(1, 1)], id="layers-that-are-not-known"),
    ],
)
def test_ways(shape: Shape, splits: Splits, gpus: int, expected: list[tuple[int, int]]) -> None:
    """Fewest GPUs, then fewest stages: of those one works while the others wait."""
    assert parallel.ways(shape, gpus, splits) == [Place(*way) for way in expected]


def test_ways_that_may_be_legal() -> None:
    """What is not known is not ruled out where somebody asks for that."""
    assert parallel.ways(Shape(), 2, TENSORS, is_open=True) == [Place(1, 1), Place(2, 1)]
    assert parallel.ways(Shape(), 2, LAYERS, is_open=True) == [Place(1, 1), Place(1, 2)]


def test_latent_attention_has_no_kv_heads_to_split() -> None:
    """DeepSeek-V3's 128 heads share one vector, which every GPU has."""
    latent = Shape(heads=128, kv_heads=5, kv_lora_rank=512)
    assert parallel.is_legal(latent, 16) is True


@pytest.mark.parametrize(
    ("splits", "gpus", "needed", "place", "why", "least"),
    [
        pytest.param(TENSORS, 1, 1, (1, 1), "one GPU", 1, id="one"),
        pytest.param(TENSORS, 8, 1, (1, 1), "one of 8 GPUs holds it", 1, id="one-of-eight"),
        pytest.param(TENSORS, 8, 2, (2, 1),
                     "the fewest of 8 GPUs that hold it; 32 heads and 8 kv heads split evenly over 2", 2, id="two"),
        pytest.param(TENSORS, 4, 3, (4, 1),
                     "all 4 GPUs are needed to hold it; 32 heads and 8 kv heads split evenly over 4", 4, id="all"),
        pytest.param(TENSORS, 2, 3, (2, 1), "all 2 GPUs; 32 heads and 8 kv heads split evenly", 4,
                     id="too-few-so-all-and-it-is-said-how-many"),
        pytest.param(TENSORS, 2, 65, (2, 1), "all 2 GPUs; 32 heads and 8 kv heads split evenly", None,
                     id="more-than-anybody-has"),
    ],
)  # fmt: skip
def test_choose(splits: Splits, gpus: int, needed: int, place: tuple[int, int], why: str, least: int | None) -> None:
    """The fewest that hold it; all where those are too few."""
    found = parallel.choose(LLAMA, gpus, splits, holding(needed))
    assert (found.place, found.tensor_why, found.least) == (Place(*place), why, least)
    assert found.gpus == place[0] * place[1]


@pytest.mark.parametrize(
    ("gpus", "place", "why"),
    [
        pytest.param(8, (4, 1), "4 of 8 GPUs: 3 would hold it in stages, of which one works while the others wait; "
                     "32 heads and 8 kv heads split evenly over 4", id="rather-four-that-share-than-three-in-a-row"),
        pytest.param(3, (1, 3), "all 3 GPUs are needed to hold it; 3 stages of 1", id="three-where-there-are-no-four"),
    ],
)  # fmt: skip
def test_sharing_comes_before_stages(gpus: int, place: tuple[int, int], why: str) -> None:
    """Heads do not split three ways, layers do."""
    found = parallel.choose(LLAMA, gpus, BOTH, holding(3))
    assert (found.place, found.least) == (Place(*place), 3)
    assert (found.tensor_why if found.stages == 1 else found.stages_why) == why


def test_what_is_not_known_takes_all() -> None:
    """As it did when nobody asked how much it needs."""
    assert parallel.choose(LLAMA, 8, BOTH, lambda _: None) == parallel.split(LLAMA, 8, in_stages=True)
    assert parallel.everything(LLAMA, 8, LAYERS) == Split(1, "one GPU", 8, "the layers are dealt to all 8 GPUs")
    assert parallel.everything(LLAMA, 8, Splits()) == Split(1, "one GPU")


FLAGS = (("tensor-parallel-size", "tp"), ("pipeline-parallel-size", "pp"))


@pytest.mark.parametrize(
    ("args", "place"),
    [
        pytest.param({"tensor-parallel-size": 4}, (4, 1), id="a-number"),
        pytest.param({"tp": "2"}, (2, 1), id="a-text"),
        pytest.param({"tp": 2, "pp": 2}, (2, 2), id="both"),
        pytest.param({"pp": 3}, (1, 3), id="stages"),
        pytest.param({"tp": None}, (1, 1), id="taken-out"),
    ],
)
def test_what_the_user_says(args: dict[str, object], place: tuple[int, int]) -> None:
    """It is taken as it is."""
    found = parallel.asked(LLAMA, 4, BOTH, args, FLAGS)
    assert found is not None
    assert found.place == Place(*place)


def test_where_the_user_says_nothing() -> None:
    """Other flags are none of this."""
    assert parallel.asked(LLAMA, 4, BOTH, {"dtype": "half"}, FLAGS) is None


def test_how_many_gpus_there_are_may_be_unknown() -> None:
    """Then only the heads decide."""
    found = parallel.asked(LLAMA, None, BOTH, {"tp": 32}, FLAGS)
    assert found is not None
    assert found.tensor == 32


RULE = "attention heads must divide evenly, and kv heads divide or be copied evenly"


@pytest.mark.parametrize(
    ("shape", "splits", "args", "message"),
    [
        pytest.param(QWEN2_7B, TENSORS, {"tp": 3},
                     f"engine.args.tp=3: 28 heads and 4 kv heads do not split over 3 GPUs: {RULE}; legal here: 1, 2, 4",
                     id="heads"),
        pytest.param(LLAMA, TENSORS, {"tensor-parallel-size": 8},
                     "engine.args.tensor-parallel-size=8: needs 8 GPUs, and there are 4; legal here: 1, 2, 4",
                     id="more-than-there-are"),
        pytest.param(LLAMA, BOTH, {"tp": 2, "pp": 4},
                     "engine.args.pp=4: needs 8 GPUs, and there are 4; legal here: 1, 2", id="stages-of-two"),
        pytest.param(LLAMA, TENSORS, {"pp": 2},
                     "engine.args.pp=2: the layers of LlamaForCausalLM cannot be dealt; legal: 1", id="no-stages"),
        pytest.param(Shape(heads=4, kv_heads=4, layers=1), LAYERS, {"pp": 2},
                     "engine.args.pp=2: 1 layers make no more stages than that", id="too-few-layers"),
        pytest.param(LLAMA, BOTH, {"tp": 0}, "engine.args.tp=0: must be a whole number of GPUs, 1 at least", id="none"),
        pytest.param(LLAMA, BOTH, {"tp": "two"}, "engine.args.tp=two: must be a whole number of GPUs, 1 at least",
                     id="a-word"),
        pytest.param(LLAMA, BOTH, {"tp": True}, "engine.args.tp=True: must be a whole number of GPUs, 1 at least",
                     id="a-bare-flag"),
        pytest.param(LLAMA, BOTH, {"tp": 1.5}, "engine.args.tp=1.5: must be a whole number of GPUs, 1 at least",
                     id="a-fraction"),
    ],
)  # fmt: skip
def test_what_the_user_may_not_say(shape: Shape, splits: Splits, args: dict[str, object], message: str) -> None:
    """The message names the flag, the rule and the legal numbers."""
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}$"):
        parallel.asked(shape, 4, splits, args, FLAGS)


def test_what_adapters_declare() -> None:
    """One that says nothing, or something else, is left out."""
    adapters = {"a": SimpleNamespace(splits=LAYERS), "b": SimpleNamespace(), "c": SimpleNamespace(splits="many")}
    assert parallel.declared(adapters, {}) == {"a": LAYERS}


def test_the_share_that_adapters_declare() -> None:
    """It goes by the user's settings."""
    adapter = SimpleNamespace(splits=LAYERS, share=lambda settings: settings["half"] / 2)
    assert parallel.declared({"a": adapter}, {"half": 1.0}) == {"a": LAYERS._replace(share=0.5)}


# --- over several machines ---


@pytest.mark.parametrize(
    ("shape", "splits", "gpus", "nodes", "expected"),
    [
        pytest.param(LLAMA, BOTH, 2, 2, [(1, 2), (2, 2), (1, 4)], id="stages-on-each-machine"),
        pytest.param(Shape(heads=9, kv_heads=3, layers=3), LAYERS, 2, 2, [(1, 2)], id="no-more-stages-than-layers"),
        pytest.param(LLAMA, TENSORS, 8, 2, [(2, 1), (4, 1), (8, 1), (16, 1)], id="layers-that-cannot-be-dealt"),
        pytest.param(Shape(heads=32, kv_heads=8), LAYERS, 1, 2, [(2, 1)], id="layers-that-are-not-known"),
        pytest.param(QWEN2_7B, TENSORS, 1, 3, [], id="none"),
    ],
)
def test_across(shape: Shape, splits: Splits, gpus: int, nodes: int, expected: list[tuple[int, int]]) -> None:
    """GPUs that share a layer are in one machine, unless the layers cannot be dealt."""
    assert parallel.across(shape, gpus, nodes, splits) == [Place(*way) for way in expected]


@pytest.mark.parametrize(
    ("splits", "needed", "place", "why", "least"),
    [
        pytest.param(BOTH, 1, (1, 2), "2 of 8 GPUs on 2 machines; 2 stages, one on each machine: between stages little "
                     "passes, within a layer much", 1, id="as-few-as-both-machines-take"),
        pytest.param(BOTH, 3, (2, 2), "4 of 8 GPUs on 2 machines; 2 stages, one on each machine: between stages little "
                     "passes, within a layer much", 3, id="a-layer-on-two-of-one-machine"),
        pytest.param(BOTH, 9, (4, 2), "all 8 GPUs of 2 machines; 2 stages, one on each machine: between stages little "
                     "passes, within a layer much", 9, id="too-few-so-all-and-it-is-said-how-many"),
        pytest.param(TENSORS, 3, (4, 1), "4 of 8 GPUs on 2 machines; the layers cannot be dealt, so that all machines "
                     "share each; 32 heads and 8 kv heads split evenly", 4, id="over-the-network"),
    ],
)  # fmt: skip
def test_choose_across(splits: Splits, needed: int, place: tuple[int, int], why: str, least: int | None) -> None:
    """The fewest stages, then the fewest GPUs, that hold it; all where those are too few."""
    found = parallel.choose_across(LLAMA, 4, 2, splits, holding(needed))
    assert (found.place, found.least, found.nodes) == (Place(*place), least, 2)
    assert (found.stages_why if found.stages > 1 else found.tensor_why) == why


def test_stages_that_share_a_machine() -> None:
    """Seven heads leave one way to use three GPUs of a machine."""
    found = parallel.choose_across(Shape(heads=7, kv_heads=7, layers=30), 3, 2, Splits(staged=None), holding(6))
    assert (found.place, found.stages_why[:49]) == (Place(1, 6), "all 6 GPUs of 2 machines; 6 stages, 3 on each mac")


def test_machines_that_nothing_splits_over() -> None:
    """It is said before anything is planned."""
    with pytest.raises(ConfigError, match=r"^hw\.nodes=3: 28 heads and 4 kv heads do not split over them, and the "):
        parallel.choose_across(QWEN2_7B, 1, 3, TENSORS, holding(1))


@pytest.mark.parametrize(
    ("args", "place"),
    [
        pytest.param({"tp": 2, "pp": 2}, (2, 2), id="a-stage-on-each"),
        pytest.param({"tp": 4}, (4, 1), id="half-of-each-layer-on-each"),
        pytest.param({"tp": 3, "pp": 1}, None, id="three-on-two-machines"),
        pytest.param({"tp": 1, "pp": 3}, None, id="three-stages-on-two-machines"),
    ],
)
def test_what_the_user_says_of_several_machines(args: dict[str, object], place: tuple[int, int] | None) -> None:
    """Each machine has as many GPUs of it."""
    shape = Shape(architecture="LlamaForCausalLM", layers=32, heads=12, kv_heads=12)
    if place is None:
        with pytest.raises(ConfigError, match=r" GPUs cannot be dealt to 2 machines alike; say engine\.args\."):
            parallel.asked(shape, 8, BOTH, args, FLAGS, 2)
        return
    found = parallel.asked(shape, 8, BOTH, args, FLAGS, 2)
    assert found is not None
    assert (found.place, found.nodes) == (Place(*place), 2)


def test_engines_of_one_machine() -> None:
    """Those that can serve from several are named."""
    splits = {"a": TENSORS, "b": Splits(nodes=True), "c": Splits(nodes=True)}
    two = Hardware(profile="p", nodes=2)
    parallel.check_nodes("b", two, splits)
    parallel.check_nodes("a", Hardware(profile="p"), splits)
    for name in ("a", "unknown"):
        with pytest.raises(ConfigError, match=rf"^{name} serves from one machine; hw\.nodes=2 is for engine=b or c$"):
            parallel.check_nodes(name, two, splits)
    with pytest.raises(ConfigError, match=r"is for engine=none that is installed$"):
        parallel.check_nodes("a", two, {})

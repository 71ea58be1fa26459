"""A job's network lies on as few GPUs as hold it, or on those that the user says."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from xinfer.catalog import Shape, Spec
from xinfer.engines import Job
from xinfer.errors import ConfigError
from xinfer.facts import Gpu, Hardware
from xinfer.planning import spread
from xinfer.planning.cache import Place
from xinfer.planning.parallel import Splits
from xinfer.spec import Workload

NETWORK = Shape(architecture="LlamaForCausalLM", layers=32, heads=32, kv_heads=8, head_dim=128)
SPLITS = Splits(tensor=True, staged=frozenset({"LlamaForCausalLM"}))
JOB = Job(
    spec=Spec(family="f", size="13", format="pytorch", quantization="none", hub=None, id=None, shape=NETWORK),
    hardware=Hardware(profile="p", gpus=4, gpu=Gpu(vendor="nvidia", memory_gib=16)),
    settings={"name": "e"}, workload=Workload(name="w", input_tokens=1, output_tokens=1), context_length=4096,
    home="/h", python="python3", port=1,
)  # fmt: skip


def job(gpus: int | None = 4, **args: Any) -> Job:
    hardware = msgspec.structs.replace(JOB.hardware, gpus=gpus)
    return msgspec.structs.replace(JOB, hardware=hardware, settings={"name": "e", "args": args})


def placed(has: float | None, overhead: float | None = None, **args: Any) -> Place:
    found = spread.spread(job(**args), SPLITS, "bfloat16", has_gib=has, overhead_gib=lambda _: overhead)
    return found.split.place


def test_as_few_as_hold_it() -> None:
    """24 GiB of weights and half a GiB of cache need two GPUs of 16, and one of 32."""
    assert placed(16.0, 1.0) == Place(2, 1)
    assert placed(32.0, 1.0) == Place(1, 1)


def test_room_is_left_for_what_is_not_known() -> None:
    """24.7 GiB fill 26 to more than nine tenths."""
    assert placed(26.0, 1.0) == Place(1, 1)
    assert spread.spread(job(), SPLITS, None, has_gib=26.0).split.place == Place(2, 1)


def test_the_cache_is_as_narrow_as_its_flag_says() -> None:
    """Half the bytes for each token."""
    assert placed(24.6, 0.0) == Place(2, 1)
    assert placed(24.6, 0.0, kv_cache_dtype="fp8") == Place(1, 1)


def test_all_where_the_memory_is_not_known() -> None:
    """As few as hold it are not known either."""
    found = spread.spread(job(), SPLITS, None, has_gib=None)
    assert (found.split.place, found.split.least, found.is_own) == (Place(4, 1), None, False)


def test_the_users_own_word() -> None:
    """It is taken, and said to be the user's."""
    found = spread.spread(job(tensor_parallel_size=4), SPLITS, None, has_gib=1000.0)
    assert (found.split.place, found.is_own) == (Place(4, 1), True)


def test_the_users_own_word_must_be_legal() -> None:
    """Unless other machines help: how many GPUs those have is not known."""
    with pytest.raises(
        ConfigError, match=r"^engine\.args\.tp-size=8: needs 8 GPUs, and there are 4; legal here: 1, 2, 4$"
    ):
        spread.spread(job(**{"tp-size": 8}), SPLITS, None, has_gib=None)
    wide = spread.spread(job(**{"tp-size": 8, "nnodes": 2}), SPLITS, None, has_gib=None)
    assert wide.split.place == Place(8, 1)


@pytest.mark.parametrize(
    ("args", "asked", "expected"),
    [
        pytest.param({}, None, 0.92, id="the-engines-own"),
        pytest.param({}, 0.8, 0.8, id="the-setting"),
        pytest.param({"share": 0.7}, 0.8, 0.7, id="the-flag"),
        pytest.param({"share": True}, 0.8, 0.92, id="no-number"),
        pytest.param({"share": "0.7"}, 0.8, 0.92, id="a-text"),
    ],
)
def test_share(args: dict[str, Any], asked: float | None, expected: float) -> None:
    """The flag counts, then the setting, then what the engine does by itself."""
    assert spread.share_of(job(**args).settings, "share", asked, 0.92) == expected


def test_several_machines() -> None:
    """Each has stages of its own, on as few GPUs as hold them; the user's own flags count there too."""
    two = msgspec.structs.replace(JOB, hardware=msgspec.structs.replace(JOB.hardware, nodes=2))
    found = spread.spread(two, SPLITS, "bfloat16", has_gib=16.0)
    assert (found.split.place, found.split.nodes) == (Place(1, 2), 2)
    own = msgspec.structs.replace(two, settings={"name": "e", "args": {"tp": 8}})
    assert spread.spread(own, SPLITS, "bfloat16", has_gib=16.0).split.place == Place(8, 1)


@pytest.mark.parametrize("flag", ["nnodes", "node_rank", "dist-init-addr"])
def test_how_machines_find_each_other(flag: str) -> None:
    """The plan says that, once it is for several."""
    args = {"name": "e", "args": {flag: 1}}
    two = msgspec.structs.replace(JOB, hardware=msgspec.structs.replace(JOB.hardware, nodes=2), settings=args)
    with pytest.raises(ConfigError, match=r": hw\.nodes= and hw\.head= set this flag; leave it out$"):
        spread.spread(two, SPLITS, "bfloat16", has_gib=16.0)

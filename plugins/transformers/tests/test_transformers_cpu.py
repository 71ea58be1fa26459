"""The plans of Transformers on a CPU, word for word where it matters."""

from __future__ import annotations

import re
import shlex
from typing import Any

import pytest
from plans import SMOLLM2, flag
from transformers_plans import BFLOAT16, H100, QWEN2, SAMPLING, WORDS, machine, plan


def test_the_cpu_command_line() -> None:
    """Requests are served together from a cache of a known size, by as many threads as there are free cores."""
    launch = plan()
    assert launch.environment
    place = launch.argv[4]
    assert re.fullmatch(r"/h/models/smollm2-135m-instruct-bfloat16-[0-9a-f]{8}", place)
    assert launch.weights[-1].path == place
    assert shlex.join(launch.argv) == (
        f"{launch.environment.path}/bin/python -m transformers.cli.transformers serve {place}"
        " --host 127.0.0.1 --port 8000 --device cpu --dtype bfloat16 --continuous-batching"
        " --cb-block-size 2048 --cb-num-blocks 5 --cb-max-batch-tokens 512"
    )
    assert launch.env == {
        "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "HF_HUB_CACHE": "/h/models", "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HUB_DISABLE_UPDATE_CHECK": "1", "TORCHINDUCTOR_CACHE_DIR": "/h/caches/torch",
    }  # fmt: skip
    assert launch.because.keys() == {word for word in launch.argv if word.startswith("--")} | {*launch.env}
    assert (launch.dtype, launch.device, launch.variant) == ("bfloat16", "cpu", "cpu")
    assert (launch.health, launch.model) == ("/health", place)
    assert launch.notes == (SAMPLING, WORDS)


@pytest.mark.parametrize(
    ("changes", "block", "blocks", "why"),
    [
        pytest.param({}, "2048", "5", "4 slots (workload chat keeps 4 in flight)", id="as-many-as-are-in-flight"),
        pytest.param({"concurrency": 1}, "2048", "2", "1 slots (workload chat keeps 1 in flight)", id="one"),
        pytest.param({"slots": 17}, "2048", "20", "17 slots (engine.slots)", id="the-users-word"),
        pytest.param(
            {"context_length": 300}, "512", "5", "4 slots (workload chat keeps 4 in flight)", id="whole-pages"
        ),
    ],
)
def test_the_cache_on_a_cpu(changes: dict[str, Any], block: str, blocks: str, why: str) -> None:
    """Left alone it takes more than half of the memory; its blocks are too long for prompts to share one."""
    launch = plan(**changes)
    assert (flag(launch, "--cb-block-size"), flag(launch, "--cb-num-blocks")) == (block, blocks)
    room = f"a block for each of {why}, and the 15% that its scheduler keeps free"
    assert launch.because["--cb-num-blocks"] == room


@pytest.mark.parametrize("slots", range(1, 70))
def test_the_scheduler_never_runs_short(slots: int) -> None:
    """With every slot taken, the share of the cache is free below which a prompt is not computed on."""
    blocks = int(flag(plan(slots=slots), "--cb-num-blocks") or 0)
    assert (blocks - slots) / blocks >= 0.15
    assert (blocks - 1 - slots) / blocks < 0.15


@pytest.mark.parametrize(
    ("cores", "threads", "settings", "policy"),
    [
        pytest.param(16, "15", {}, None, id="one-core-is-left-to-the-client"),
        pytest.param(1, "1", {}, None, id="never-none"),
        pytest.param(None, None, {}, "passive", id="not-known"),
        pytest.param(16, "15", {"threads": 15}, None, id="the-users-number"),
        pytest.param(16, "16", {"threads": 16}, "passive", id="more-than-are-free"),
        pytest.param(None, "2", {"threads": 2}, None, id="the-users-number-on-a-machine-that-is-not-known"),
    ],
)
def test_threads(cores: int | None, threads: str | None, settings: dict[str, Any], policy: str | None) -> None:
    """They are the cores but one; where they may be more, none of them spins at a barrier."""
    launch = plan(machine(cores=cores), **settings)
    assert (launch.env.get("OMP_NUM_THREADS"), launch.env.get("OMP_WAIT_POLICY")) == (threads, policy)
    unknown = "the number of cores is not known: PyTorch chooses the threads; engine.threads= says otherwise"
    assert (unknown in launch.notes) == (threads is None)


@pytest.mark.parametrize(
    ("isa", "dtype", "expected"),
    [
        pytest.param(BFLOAT16, None, "bfloat16", id="it-has-bfloat16"),
        pytest.param(("avx2", "amx_bf16"), None, "bfloat16", id="in-tiles"),
        pytest.param(("neon", "bf16"), None, "bfloat16", id="on-arm"),
        pytest.param(("avx2", "avx512f"), None, "float32", id="it-has-none"),
        pytest.param(("avx2",), "bfloat16", "bfloat16", id="the-users-word"),
        pytest.param(BFLOAT16, "float32", "float32", id="float32"),
        pytest.param(None, None, "bfloat16", id="not-known"),
    ],
)
def test_what_a_cpu_computes_in(isa: tuple[str, ...] | None, dtype: str | None, expected: str) -> None:
    """In bfloat16 where it has instructions for that, or may have; the folder is made in the same."""
    launch = plan(machine(isa=isa), dtype=dtype)
    assert (launch.dtype, flag(launch, "--dtype")) == (expected, expected)
    assert launch.weights[-1].steps[0][-1] == expected


def test_a_float16_network_is_made_from_a_folder_that_loses_nothing() -> None:
    """The server rounds it; the folder holds float32."""
    launch = plan(dtype="float16")
    assert (flag(launch, "--dtype"), launch.weights[-1].steps[0][-1]) == ("float16", "float32")


def test_memory() -> None:
    """What the program takes was measured on a CPU, and on nothing else; the cache has blocks that are no slot's."""
    found = plan().memory
    assert (found.overhead_gib, found.formula["overhead_gib"]) == (0.45, "0.45 GiB of program: PyTorch and the server")
    assert found.formula["kv_gib"] == (
        "5 + 2 blocks of 2048 tokens, 23040 bytes each: the slots', and what the scheduler keeps free"
    )
    assert found.kv_gib == pytest.approx(7 * 2048 * 23040 / 2**30)
    assert plan(dtype="float32").memory.kv_gib == pytest.approx(7 * 2048 * 46080 / 2**30)
    assert (plan(spec=QWEN2).memory.overhead_gib, plan(spec=QWEN2).memory.kv_gib) == (0.45, None)
    assert (plan(H100, SMOLLM2).memory.overhead_gib, plan(H100, SMOLLM2).memory.kv_gib) == (None, None)

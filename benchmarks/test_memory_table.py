"""What ``memory.py`` reads in engines' logs, and how it prints it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from memory import GIB, MIB, Row, Said, said, table

from xinfer.plan import LaunchPlan

if TYPE_CHECKING:
    from pathlib import Path

LLAMA = """
load_tensors:          CPU model buffer size =     0.00 MiB
llama_kv_cache:        CPU KV buffer size =     0.00 MiB
load_tensors:   CPU_Mapped model buffer size =   235.16 MiB
load_tensors:   CPU_REPACK model buffer size =    12.66 MiB
llama_kv_cache:        CPU KV buffer size =    11.25 MiB
"""


@pytest.mark.parametrize(
    ("engine", "dtype", "log", "expected"),
    [
        pytest.param("llama_cpp", None, LLAMA, Said(247.82 * MIB, 11.25 * MIB, "its log's buffer sizes"), id="llama"),
        pytest.param("vllm", "bfloat16", "CPU KV cache size: 5,760 tokens, Maximum",
                     Said(10, 5760 * 23_040, "the files that it loads; its log: 5760 tokens"), id="vllm"),
        pytest.param("sglang", "float32", "KV Cache is allocated. dtype: torch.float32, #tokens: 4162, K size: 0.04 GB",
                     Said(10, 4162 * 46_080, "the files that it loads; its log: 4162 tokens"), id="sglang"),
        pytest.param("vllm", None, "", Said(10, None, "the files that it loads; its log: 0 tokens"), id="nothing-said"),
        pytest.param("mlx", None, "", Said(10, None, "the files that it loads"), id="mlx"),
    ],
)  # fmt: skip
def test_what_an_engine_says(engine: str, dtype: str | None, log: str, expected: Said, tmp_path: Path) -> None:
    """Buffers of the last load, tokens times what a token takes, and the files themselves."""
    (tmp_path / "model.safetensors").write_bytes(b"0123456789")
    launch = LaunchPlan(engine=engine, version=None, variant="cpu", argv=("serve", str(tmp_path)), dtype=dtype)
    found = said(launch, log)
    assert found.weights == pytest.approx(expected.weights)
    assert found._replace(weights=None) == expected._replace(weights=None)


def test_table() -> None:
    """What nobody says has no row."""
    rows = [
        Row("e", "weights", 1.1, GIB / GIB, "log"),
        Row("e", "cache", 1.0, None, ""),
        Row("e", "total", None, 2, "rss"),
    ]
    assert table(rows).splitlines()[2:] == [
        "| e | weights | 1.100 | 1.000 | 1.10 | log |",
        "| e | total | - | 2.000 |  | rss |",
    ]

"""The grid: one row per artefact and engine, with the conditions that decided."""

from __future__ import annotations

import csv
import io
import re
from functools import cache
from typing import Any

import pytest

from xinfer import engines
from xinfer.catalog import Spec
from xinfer.config.compose import Composer
from xinfer.errors import ConfigError
from xinfer.facts import Gpu, Hardware
from xinfer.judging import packs
from xinfer.verbs import grid
from xinfer.verbs.grid import Row

SOURCES = {"page": {"kind": "page", "title": "A guide", "date": "2024-08-14", "where": "example.org/guide"}}
PACK = packs.load(
    {
        "name": "mine",
        "sources": SOURCES,
        "engines": {
            "vllm": {
                "format": {"fact": "model.format", "in": ["gptq"], "source": "page"},
                "os": {"fact": "hw.os", "eq": "linux", "source": "page"},
                "cuda": {"fact": "hw.cuda_devices", "ge": 1, "source": "page"},
            },
            "mlx": {"format": {"fact": "model.format", "eq": "mlx", "source": "page"}},
        },
    },
    "mine.yaml",
)
GPTQ = Spec(family="f", size="7", format="gptq", quantization="Int4", hub=None, id=None)
NOTHING = Spec(family="g", size=None, format=None, quantization=None, hub=None, id=None)
CUDA = Hardware(profile="cuda", os="linux", gpus=1, gpu=Gpu(vendor="nvidia"))


def judged(*specs: Spec, on: Hardware = CUDA, broken: tuple[str, ...] = ()) -> list[tuple[Any, ...]]:
    return [(row.engine, row.verdict, row.conditions) for row in grid.judge(PACK, specs, on, broken)]


@pytest.mark.parametrize(
    ("spec", "on", "broken", "expected"),
    [
        pytest.param(GPTQ, CUDA, (), [("vllm", "yes", ()), ("mlx", "no", ("format",))], id="a-yes-needs-no-reason"),
        pytest.param(
            GPTQ, Hardware(profile="p", os="darwin"), (), [("vllm", "no", ("os",)), ("mlx", "no", ("format",))],
            id="a-no-names-what-failed-and-not-what-is-unknown",
        ),
        pytest.param(
            NOTHING, Hardware(profile="p", os="linux"), (),
            [("vllm", "unknown", ("format", "cuda")), ("mlx", "unknown", ("format",))],
            id="an-unknown-names-all-that-is-unknown",
        ),
        pytest.param(
            GPTQ, CUDA, ("vllm", "mlx"), [("vllm", "unknown", ("plugin",)), ("mlx", "no", ("format",))],
            id="a-broken-plugin-is-unknown-unless-refused",
        ),
        pytest.param(
            NOTHING, CUDA, ("mlx",), [("vllm", "unknown", ("format",)), ("mlx", "unknown", ("format", "plugin"))],
            id="a-broken-plugin-comes-after-the-conditions",
        ),
    ],
)  # fmt: skip
def test_rows(spec: Spec, on: Hardware, broken: tuple[str, ...], expected: list[tuple[Any, ...]]) -> None:
    """Every engine has a row, in the pack's order, with the ids of what decided."""
    assert judged(spec, on=on, broken=broken) == expected


def test_a_row_names_its_artefact() -> None:
    """Family, size, format and quantization are as published."""
    first, *_ = grid.judge(PACK, [GPTQ], CUDA)
    assert first == Row("f", "7", "gptq", "Int4", "vllm", "yes", ())


def test_csv() -> None:
    """Columns have a contract; an unknown cell is empty, ids are separated by spaces, lines end in one character."""
    stream = io.StringIO(newline="")
    grid.write_csv([*grid.judge(PACK, [NOTHING], CUDA), Row("f", "7", "a,b", "q", "x", "no", ("a", "b"))], stream)
    assert stream.getvalue() == (
        "family,size,format,quantization,engine,verdict,conditions\n"
        "g,,,,vllm,unknown,format\n"
        "g,,,,mlx,unknown,format\n"
        'f,7,"a,b",q,x,no,a b\n'
    )


# --- of the catalogue ---


@cache
def composer() -> Composer:
    return Composer()


def rows(*overrides: str) -> list[Row]:
    return grid.rows(composer().compose(["hw=cuda", *overrides]), composer())


def test_the_documented_grid() -> None:
    """1332 artefacts and five engines; vLLM says yes to 215 of them, and to no family without a record."""
    table = rows()
    assert len(table) == 1332 * 5
    assert len({row[:4] for row in map(cells, table)}) == 1332
    assert sum(row.verdict == "yes" for row in table if row.engine == "vllm") == 215
    assert {row.engine for row in table} == {"vllm", "sglang", "transformers", "llama_cpp", "mlx"}
    assert {row.verdict for row in table} == {"yes", "no"}


def cells(row: Row) -> tuple[Any, ...]:
    return row.family, row.size, row.format, row.quantization, row.engine, row.verdict


@pytest.mark.parametrize(
    ("overrides", "count"),
    [
        pytest.param(("rules=xinference-2024-07",), 1144 * 5, id="the-day-of-the-pack"),
        pytest.param(("rules=xinference-2024-07", "catalog=2024-08"), 1186 * 5, id="its-families-on-another-day"),
        pytest.param(("catalog=2026-08",), 894 * 5, id="todays-catalogue-by-the-old-page"),
        pytest.param(("rules.catalog=null",), 893 * 5, id="a-pack-without-a-day-is-about-today"),
        pytest.param(("rules.families=[qwen2-instruct]",), 64 * 5, id="the-families-that-a-pack-names"),
        pytest.param(("rules.families=[qwen2-instruct,of-nobody]",), 64 * 5, id="a-name-that-nobody-has-adds-nothing"),
        pytest.param(("rules.families=[]",), 1333 * 5, id="a-pack-without-families-is-about-all"),
    ],
)
def test_which_artefacts_are_in_the_grid(overrides: tuple[str, ...], count: int) -> None:
    """The pack chooses the families and the day; the user may choose another day."""
    assert len(rows(*overrides)) == count


def test_what_is_typed_narrows_it() -> None:
    """A model is judged alone, each artefact once, and so is an engine; what no rule is about is an error."""
    known = Composer(engines.conf_directories())

    def narrowed(*typed: str) -> list[Row]:
        return grid.rows(known.compose(["hw=cuda", *typed]), known, typed)

    table = narrowed("model=qwen2-instruct", "model.size=7", "engine=vllm")
    assert {(row.family, row.size, row.engine) for row in table} == {("qwen2-instruct", "7", "vllm")}
    assert len(table) == len({row[:4] for row in map(cells, table)}) > 10
    assert {row.engine for row in narrowed("engine=mlx")} == {"mlx"}
    with pytest.raises(ConfigError, match=r"^rule pack xinference-2024-08 has no rules for engine 'external'$"):
        narrowed("engine=external", "engine.url=http://127.0.0.1:1")


def test_a_day_that_was_not_kept() -> None:
    """The message lists the days."""
    message = "catalog=2025-01 is not a day that was kept; say 2024-07, 2024-08, 2026-08, 2026-10"
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}$"):
        rows("catalog=2025-01")


def test_the_users_own_families_come_first(tmp_path: Any) -> None:
    """A file of the user's takes the place of the catalogue's, and a new one joins a pack without families."""
    (tmp_path / "model").mkdir()
    body = "family: {0}\nspecs:\n- {{size: '1', format: mlx, quantizations: [none], hubs: {{huggingface: a/b}}}}\n"
    for name in ("qwen2-instruct", "of-mine"):
        (tmp_path / "model" / f"{name}.yaml").write_text(body.format(name), encoding="utf-8")
    own = Composer([tmp_path])
    try:
        table = grid.rows(own.compose(["hw=cuda", "rules.families=[]"]), own)
    finally:
        composer.cache_clear()
    sizes = {family: {r.size for r in table if r.family == family} for family in ("qwen2-instruct", "of-mine")}
    assert sizes == {"qwen2-instruct": {"1"}, "of-mine": {"1"}}


def test_csv_of_the_catalogue_reads_back() -> None:
    """What is written is what was judged."""
    table = rows("rules.families=[internlm2-chat]")
    stream = io.StringIO(newline="")
    grid.write_csv(table, stream)
    stream.seek(0)
    read = [tuple(row) for row in csv.reader(stream)]
    assert read[0] == Row.__struct_fields__
    assert [row[:6] for row in read[1:]] == [tuple(map(str, cells(row))) for row in table]

"""``xinfer matrix``: rows are judged, printed for others, and run; the exit code says whether all is as expected."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from xinfer import engines, flow, matrix
from xinfer.config.pieces import Pieces
from xinfer.errors import ConfigError
from xinfer.expectation import RUNS, Observed
from xinfer.facts import Hardware
from xinfer.judging import packs
from xinfer.matrix import Row
from xinfer.verbs import matrix as verb

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable

    Ask = Callable[..., subprocess.CompletedProcess[str]]

MATRIX = Path(__file__).parents[2] / "matrix"
OWN = ("--config-dir", str(Path(__file__).parents[1] / "resources" / "conf"))
ROWS = """
defaults: {model: qwen2-instruct}
axes: {hw: [cuda, cpu], engine: [auto, vllm]}
expect:
  - {where: {hw: cuda}, expect: {chooses: vllm}}
  - {where: {engine: vllm}, expect: {refused-by: [vllm.cuda]}}
canary: {engine: vllm}
"""
WRONG = "{axes: {model: qwen2-instruct, hw: [cuda, cpu]}, expect: [{expect: {chooses: vllm}}]}"
RUNNING = "defaults: {rules: fake, workload: tiny, engine: fake, model: fake-model}\n"


def write(text: str, name: str = "m.yaml") -> None:
    Path(name).write_text(text, encoding="utf-8")


# Judging


def test_rows_are_judged(ask: Ask) -> None:
    """A row each, the canary first, and a last line that says how it went."""
    write(ROWS)
    done = ask("matrix", "m.yaml")
    assert done.stdout.splitlines() == [
        "    expected              observed                               row",
        "ok  runs with vllm        vllm                                   hw=cuda engine=vllm",
        "ok  runs with vllm        vllm                                   hw=cuda engine=auto",
        "ok  runs                  transformers                           hw=cpu engine=auto",
        "ok  refused by vllm.cuda  xinference-2024-08 refuses vllm: cuda  hw=cpu engine=vllm",
    ]
    assert (done.returncode, done.stderr) == (0, "all 4 rows are as expected\n")


def test_a_row_that_is_not_as_expected_is_told_in_full(ask: Ask) -> None:
    """Which, what was expected, and what is instead; the exit code is one of its own."""
    write(WRONG)
    done = ask("matrix", "m.yaml")
    assert done.returncode == 5
    assert [line.split()[0] for line in done.stdout.splitlines()[1:]] == ["ok", "NOT"]
    assert done.stderr.splitlines() == [
        "xinfer: 1 of 2 rows are not as expected",
        "  m.yaml: model=qwen2-instruct hw=cpu: expected: runs with vllm; observed: transformers",
    ]
    document = json.loads(ask("matrix", "m.yaml", "format=json").stdout)
    assert [row["is_as_expected"] for row in document["rows"]] == [True, False]


@pytest.mark.usefixtures("fake_plugin")
def test_a_plugin_that_breaks_is_what_is_observed(ask: Ask) -> None:
    """It is no fault of the file."""
    write(f"{RUNNING}axes: {{engine.breaks: [null, plan]}}")
    done = ask("matrix", "m.yaml", *OWN)
    assert done.returncode == 5
    assert "expected: runs; observed: the plugin of fake broke" in done.stderr


def test_json_has_all_of_a_row(ask: Ask) -> None:
    """What is typed for it, what is expected, and what was observed."""
    write(ROWS)
    document = json.loads(ask("matrix", "m.yaml", "format=json").stdout)
    assert document["schema"] == 1
    first, *_, last = document["rows"]
    assert first["overrides"] == ["model=qwen2-instruct", "hw=cuda", "engine=vllm"]
    assert (first["expect"], first["is_canary"], first["observed"]["engine"]) == ({"chooses": "vllm"}, True, "vllm")
    assert (last["file"], last["name"], last["expect"]) == (
        "m.yaml",
        "hw=cpu engine=vllm",
        {"refused-by": ["vllm.cuda"]},
    )
    assert "vllm.cuda" in last["observed"]["not_met"]


def test_what_is_printed_for_hydra_can_be_pasted(ask: Ask) -> None:
    """Filters narrow; what is typed besides takes the place of a row's own; directories come along."""
    write(ROWS)
    done = ask("matrix", "m.yaml", "format=hydra", "filter=expect=refused", "hw=rocm", *OWN)
    assert shlex.split(done.stdout) == [*OWN, "model=qwen2-instruct", "engine=vllm", "hw=rocm"]
    assert ask("plan", *shlex.split(done.stdout)).returncode == 3


def test_github_gets_a_document_for_each_part() -> None:
    """A line each, so that it can be a job's output."""
    rows = [Row(file="m.yaml", name=f"a={n}", overrides=(f"a={n}",), expect=RUNS) for n in range(300)]
    checked = [verb.Checked(row=row, observed=Observed(engine="vllm")) for row in rows]
    first, second = verb.text(verb.Asked("github"), checked).splitlines(keepends=True)
    assert (first.count('"name"'), second.count('"name"')) == (256, 44)
    assert verb.text(verb.Asked("github", part=2), checked) == second
    with pytest.raises(ConfigError, match=r"^part=3 is not there; these rows make 2$"):
        verb.text(verb.Asked("github", part=3), checked)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        pytest.param(["m.yaml", "engine=vlm"],
                     "m.yaml: hw=cuda engine=vllm: there is no engine 'vlm'; did you mean 'vllm'?",
                     id="a-row-that-means-nothing"),
        pytest.param(["m.yaml", "port=0"],
                     "m.yaml: hw=cuda engine=vllm: port=0 is not a port; say null or a number from 1 to 65535",
                     id="a-value-that-means-nothing"),
        pytest.param(["m.yaml", "tune=throughput"],
                     "m.yaml: hw=cuda engine=vllm: tune= measures many settings, and a row is one; leave it out",
                     id="a-row-that-would-be-tuned"),
        pytest.param(["m.yaml", "filter=hw=mac"], "filter=hw=mac leaves no row: hw is cpu, cuda",
                     id="a-filter-too-narrow"),
    ],
)  # fmt: skip
def test_what_a_row_cannot_mean_is_one_line(ask: Ask, words: list[str], said: str) -> None:
    """It names the file and the row."""
    write(ROWS)
    done = ask("matrix", *words)
    assert (done.returncode, done.stdout, done.stderr) == (2, "", f"xinfer: {said}\n")


# The two pages


def test_the_truth_table_is_whole() -> None:
    """For both pages: each condition of each engine fails in a row, and each kind of artefact is served in one."""
    found = matrix.load(MATRIX / "documented.yaml")
    composer = Pieces(engines.conf_directories())
    served: dict[str, set[tuple[str | None, ...]]] = {}
    for pack in ("xinference-2024-07", "xinference-2024-08"):
        rows = [row for row in found.rows if f"rules={pack}" in row.overrides]
        refused = {condition for row in rows for condition in row.expect.refused_by}
        conditions = packs.load(composer.rules(pack), pack).engines
        assert refused == {f"{engine}.{each.id}" for engine, own in conditions.items() for each in own}
        of_one_family = [row for row in rows if row.expect.chooses and "model=qwen2-instruct" in row.overrides]
        for row in of_one_family:
            asked = flow.ask(composer.compose(row.overrides), composer, detect=lambda: Hardware(profile="auto"))
            made = flow.decide(asked, composer, compares=False).decision
            served.setdefault(pack, set()).add((made.engine, made.spec.format, made.spec.quantization))
    kinds = {
        "vllm": "pytorch none, awq Int4, gptq Int3, gptq Int4, gptq Int8",
        "sglang": "pytorch none, awq Int4, gptq Int4",
        "transformers": "pytorch none, pytorch 4-bit, pytorch 8-bit",
        "mlx": "mlx 4-bit",
    }
    wanted = {(engine, *kind.split()) for engine, known in kinds.items() for kind in known.split(", ")}
    assert all(found >= wanted for found in served.values())


@pytest.mark.parametrize(("pack", "count"), [("xinference-2024-07", 52), ("xinference-2024-08", 57)])
def test_every_family_of_the_pages_has_its_row(pack: str, count: int) -> None:
    """With a CUDA device and nothing else said."""
    cells = [row.overrides for row in matrix.load(MATRIX / "documented.yaml").rows]
    plain = {cell[2:] for cell in cells if cell[:2] == ("hw=cuda", f"rules={pack}")}
    assert len([others for others in plain if len(others) == 1]) == count


# Measuring


@pytest.mark.usefixtures("fake_plugin")
def test_rows_are_run_as_a_sweep(ask: Ask) -> None:
    """The canary alone, then the others with as few starts as a sweep needs; what is refused is not started."""
    write(
        f"""{RUNNING}
axes: {{workload.concurrency: [1, 2, 4]}}
include: [{{row: {{model: llama-3}}, expect: {{refused-by: [fake.family]}}}}]
canary: {{workload.concurrency: 2}}
budget: {{rows: 3}}
"""
    )
    done = ask("matrix", "m.yaml", "measure=true", *OWN)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("starting fake on") == 2
    assert done.stderr.index("1 of 1 cells can run") < done.stderr.index("2 of 2 cells can run")
    results, _, judged = done.stdout.partition("\n\n")
    assert [line.split("tiny")[1].split()[0] for line in results.splitlines()[1:]] == ["2", "1", "4"]
    assert [line.split()[0] for line in judged.splitlines()[1:]] == ["ok"] * 4
    document = json.loads(ask("matrix", "m.yaml", "measure=true", "format=json", *OWN).stdout)
    assert [len(row["records"]) for row in document["rows"]] == [1, 1, 1, 0]
    assert len(list(Path().glob("runs/*/*/record.json"))) == 3


@pytest.mark.usefixtures("fake_plugin")
def test_nothing_is_started_after_a_canary_that_fails(ask: Ask) -> None:
    """The others are said to be left, and the first reason is the canary's."""
    write(f"{RUNNING}axes: {{engine.behaviour: [serve, die-at-start]}}\ncanary: {{engine.behaviour: die-at-start}}\n")
    done = ask("matrix", "m.yaml", "measure=true", *OWN)
    assert done.returncode == 5
    stop = "the canary engine.behaviour=die-at-start is not as expected"
    assert f"\n1 row is not started: {stop}\n" in done.stderr
    assert f"m.yaml: engine.behaviour=serve: expected: runs; observed: not started: {stop}" in done.stderr
    assert "m.yaml: engine.behaviour=die-at-start: expected: runs; observed: start: fake ended with" in done.stderr
    assert done.stderr.count("starting fake on") == 1


@pytest.mark.usefixtures("fake_plugin")
def test_nothing_is_started_after_the_minutes_of_a_budget(ask: Ask) -> None:
    """What shares a server with a row that is measured is measured too."""
    axes = "axes: {engine.args.gap-s: ['0', '0.001'], workload.concurrency: [1, 2]}"
    write(f"{RUNNING}{axes}\nbudget: {{minutes: 0.001}}\n")
    done = ask("matrix", "m.yaml", "measure=true", *OWN)
    assert done.returncode == 5
    assert "\n2 rows are not started: the 0.001 minutes of the budget are over\n" in done.stderr
    assert done.stderr.count("starting fake on") == 1


@pytest.mark.usefixtures("fake_plugin")
def test_more_rows_than_the_budget_allows_are_not_begun(ask: Ask) -> None:
    """A file that grew is narrowed by hand, and not by chance."""
    write(f"{RUNNING}axes: {{workload.concurrency: [1, 2, 4]}}\nbudget: {{rows: 2}}\n")
    done = ask("matrix", "m.yaml", "measure=true", *OWN)
    said = "m.yaml: 3 rows are to run, and its budget allows 2; leave some out with filter="
    assert (done.returncode, done.stderr) == (2, f"xinfer: {said}\n")


@pytest.mark.usefixtures("fake_plugin")
def test_a_dry_run_says_what_would_be_done(ask: Ask) -> None:
    """The rows come out as they were judged."""
    write(f"{RUNNING}axes: {{workload.concurrency: [1, 2]}}")
    done = ask("matrix", "m.yaml", "measure=true", "dry=true", *OWN)
    assert done.returncode == 0, done.stderr
    assert "2 of 2 cells can run, with 1 start" in done.stdout
    assert not Path("runs").exists()

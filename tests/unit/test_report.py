"""What people read: nothing is left out, nothing is invented, and everything is aligned."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from xinfer import engines, flow
from xinfer.catalog import Family, Row, Spec
from xinfer.config.compose import Composer
from xinfer.facts import Gpu, Hardware
from xinfer.plan import Artefact, LaunchPlan, Memory
from xinfer.record import Failure, Record
from xinfer.verbs import report

if TYPE_CHECKING:
    from conftest import Ask

SPEC = Spec(family="f", size="1_5", format="gptq", quantization="Int4", hub="huggingface", id="a/b-{quantization}")


@pytest.fixture(scope="module")
def planned() -> flow.Planned:
    composer = Composer(engines.conf_directories())
    asked = flow.ask(
        composer.compose(["model=qwen2-instruct", "hw=cuda", "hw.os=null", "context_length=4096"]), composer
    )
    return flow.plan(asked, composer)


# A plan


def test_every_finding_of_every_engine_is_in_the_plan(planned: flow.Planned) -> None:
    """Its result, fact, observed and expected value, source, and what would help."""
    text = report.plan_text(planned)
    for verdict in planned.decision.verdicts:
        section = text.partition(f"\n{verdict.engine}: {verdict.verdict}\n")[2].partition("\n\n")[0]
        for finding in verdict.findings:
            line = next(line for line in section.splitlines() if f" {finding.id}: {finding.fact} is " in line)
            assert finding.result in line.lower()
            assert f"expected {finding.expected}" in line
            assert finding.source.title in line
            assert (finding.fix or "") in section
    assert "  unknown linux: hw.os is not known; expected linux" in text
    assert "            hw.os is not known; say it with hw.os=…" in text


def test_the_plan_begins_with_what_it_is_about(planned: flow.Planned) -> None:
    """The artefact, the machine, one line per engine, and the choice with its reasons."""
    lines = report.plan_text(planned).splitlines()
    assert lines[0] == "qwen2-instruct 7B pytorch none (Qwen/Qwen2-7B-Instruct on huggingface) on cuda: 1 x nvidia"
    assert lines[2] == "engine        verdict  conditions not met"
    assert lines[3] == "vllm          unknown  linux (unknown)"
    assert lines[7] == "mlx           no       apple-silicon, format"
    assert lines[9] == f"decision: {planned.decision.engine}"
    assert lines[10 : 10 + len(planned.decision.because)] == [f"  {reason}" for reason in planned.decision.because]


def test_todays_pack_is_in_the_plan_where_it_disagrees(planned: flow.Planned) -> None:
    """One line for each engine that it judges otherwise, and below it what makes the difference."""
    assert planned.today
    lines = report.plan_text(planned).partition("\ntoday: engines-2026-11 judges otherwise\n")[2].split("\n\n")[0]
    said = [line for line in lines.splitlines() if not line.startswith("    ")]
    assert said == [
        f"  {each.engine}: {each.today}, where xinference-2024-08 says {each.verdict}" for each in planned.today
    ]
    mlx = lines.partition("  mlx: unknown, where xinference-2024-08 says no\n")[2]
    assert "    FAILED  apple-silicon: hw.apple_silicon is false; expected true  [page: Xinference user guide" in mlx
    assert "    unknown system: hw.os is not known; expected one of darwin, linux  [page: MLX documentation" in mlx
    assert "\n              hw.os is not known; say it with hw.os=…" in mlx


@pytest.mark.parametrize("today", [None, ()], ids=["not-compared", "of-one-mind"])
def test_nothing_is_said_where_the_packs_agree(planned: flow.Planned, today: Any) -> None:
    """Nor where nothing was compared."""
    assert "\ntoday:" not in report.plan_text(msgspec.structs.replace(planned, today=today))


def test_the_plan_ends_with_what_to_do(planned: flow.Planned) -> None:
    """Every command can be pasted, and every flag has its reason beside it."""
    text = report.plan_text(planned)
    assert planned.launch is not None
    *install, command = planned.launch.shell()
    assert all(f"\n  {line}\n" in text for line in [*install, command])
    for flag, reason in planned.launch.because.items():
        assert any(line.split(maxsplit=1) == [flag, reason] for line in text.splitlines())
    assert text.endswith("\n")
    assert not text.endswith("\n\n")


def test_a_refusal_has_no_commands(planned: flow.Planned) -> None:
    """And no empty headings."""
    refused = msgspec.structs.replace(planned, launch=None)
    for heading in ("memory", "install", "launch", "because"):
        assert f"\n{heading}\n" in report.plan_text(planned)
        assert f"\n{heading}\n" not in report.plan_text(refused)


def test_an_external_server_has_no_commands_either(planned: flow.Planned) -> None:
    """It is measured as it is."""
    launch = LaunchPlan(engine="external", version=None, variant="external", base_url="http://h:1")
    decision = msgspec.structs.replace(planned.decision, verdicts=())
    text = report.plan_text(msgspec.structs.replace(planned, decision=decision, launch=launch))
    assert text.endswith("\nnothing to install or start: http://h:1 is measured as it is\n")
    assert "conditions not met" not in text


def test_the_summary_is_short(planned: flow.Planned) -> None:
    """One line each, and one for every engine that does not say yes."""
    lines = report.summary(planned).splitlines()
    assert [line.split()[0] for line in lines[:3]] == ["model", "machine", "engine"]
    assert [line.split()[0] for line in lines[3:]] == ["vllm:", "sglang:", "llama_cpp:", "mlx:"]


@pytest.mark.parametrize(
    ("memory", "lines"),
    [
        pytest.param(
            Memory(),
            ["weights not known", "kv not known", "overhead not known", "total not known not known whether it fits"],
            id="nothing-is-known",
        ),
        pytest.param(
            Memory(
                weights_gib=1.5, kv_gib=0.25, overhead_gib=0.25, total_gib=2.0, available_gib=1.0, fits=False,
                formula={"weights_gib": "by weight", "available_gib": "by hand"},
            ),
            [
                "weights 1.500 GiB by weight", "kv 0.250 GiB", "overhead 0.250 GiB", "total 2.000 GiB does not fit",
                "available 1.000 GiB by hand",
            ],
            id="too-large",
        ),
        pytest.param(Memory(total_gib=0.0, fits=True), ["total 0.000 GiB fits"], id="zero-is-a-number"),
    ],
)  # fmt: skip
def test_memory_lines(planned: flow.Planned, memory: Memory, lines: list[str]) -> None:
    """Each part with how it came about; what is not known says so, and is never a zero."""
    launch = LaunchPlan(engine="e", version=None, variant="v", argv=("run",), memory=memory)
    text = report.plan_text(msgspec.structs.replace(planned, launch=launch))
    said = [" ".join(line.split()) for line in text.splitlines()]
    assert [line for line in lines if line not in said] == []


def test_notes_stand_at_the_end(planned: flow.Planned) -> None:
    """And what is empty has no lines of its own."""
    made = Artefact(path="/p", steps=(("pip", "install", "a b"),))
    launch = LaunchPlan(engine="e", version=None, variant="v", argv=("run",), environment=made, notes=("one", "two"))
    lines = report.plan_text(msgspec.structs.replace(planned, launch=launch)).splitlines()
    assert lines[-2:] == ["note: one", "note: two"]
    assert "  pip install 'a b'" in lines


# Names


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        pytest.param(SPEC, "f 1.5B gptq Int4 (a/b-Int4 on huggingface)", id="a-published-one"),
        pytest.param(
            msgspec.structs.replace(SPEC, size=None, format=None, quantization=None, id=None, note="nobody knows"),
            "f (nobody knows)",
            id="one-that-is-not",
        ),
    ],
)
def test_an_artefacts_name(spec: Spec, said: str) -> None:
    """With the place where it is published."""
    assert report.artefact(spec) == said


@pytest.mark.parametrize(
    ("hardware", "said"),
    [
        pytest.param(Hardware(profile="p"), "p: ", id="nothing-is-known"),
        pytest.param(
            Hardware(profile="p", os="linux", arch="x86_64", cpu="C", cores=2, memory_gib=1.0, gpus=0),
            "p: linux x86_64, C, 2 cores, 1.0 GiB, no GPU",
            id="all-is-known",
        ),
        pytest.param(Hardware(profile="p", gpus=4, gpu=Gpu(name="H100")), "p: 4 x H100", id="named-gpus"),
        pytest.param(Hardware(profile="p", gpus=1, gpu=Gpu(vendor="amd")), "p: 1 x amd", id="a-vendor"),
        pytest.param(Hardware(profile="p", gpus=1), "p: 1 x GPU", id="just-a-gpu"),
    ],
)
def test_a_machines_name(hardware: Hardware, said: str) -> None:
    """What is not known is left out."""
    assert report.machine(hardware) == said


def test_the_facts_of_a_machine() -> None:
    """One a line, the unknown ones too; a GPU's only if there may be one."""
    none = report.hardware_text(Hardware(profile="p", gpus=0, isa=("avx", "fma"), apple_silicon=False))
    assert "gpu." not in none
    assert "\nisa                     avx fma\n" in none
    assert "\napple_silicon           false\n" in none
    assert "\nos                      not known\n" in none
    assert "\ngpu.memory_gib          not known\n" in report.hardware_text(Hardware(profile="p"))


# Tables


def record(**fields: Any) -> Record:
    spec = {"family": "f", "size": "7", "format": "gptq", "quantization": "Int4"}
    base = Record(
        cell="c", run="r", status="ok", started="", seconds=1.0, overrides=("model=f",),
        config={"workload": {"name": "smoke"}}, decision={"engine": "vllm", "spec": spec},
        metrics={"ttft": {"p50": 0.0123}, "tpot": {"p50": 0.00456}, "output_tps": 78.94},
    )  # fmt: skip
    return msgspec.structs.replace(base, **fields)


def rows(*records: Record) -> list[list[str]]:
    head, *body = report.result_table([[each] for each in records]).splitlines()
    starts = [
        head.index(word)
        for word in (
            "model",
            "engine",
            "workload",
            " load ",
            "runs",
            "status",
            "TTFT",
            "TPOT",
            "out tok",
            "of limit",
            "flags",
        )
    ]
    ends = [*starts[1:], None]
    return [[line[start:end].strip() for start, end in zip(starts, ends, strict=True)] for line in body]


@pytest.mark.parametrize(
    ("fields", "row"),
    [
        pytest.param(
            {}, ["f 7 gptq Int4", "vllm", "smoke", "-", "1", "ok", "12.3", "4.6", "78.9", "-", "-"], id="numbers"
        ),
        pytest.param(
            {"flags": ({"id": "short"}, {"id": "noisy"})},
            ["f 7 gptq Int4", "vllm", "smoke", "-", "1", "ok", "12.3", "4.6", "78.9", "-", "short, noisy"],
            id="flags",
        ),
        pytest.param(
            {"metrics": {"ttft": None, "tpot": {"p50": None}, "output_tps": None}},
            ["f 7 gptq Int4", "vllm", "smoke", "-", "1", "ok", "-", "-", "-", "-", "-"],
            id="numbers-that-the-run-does-not-support",
        ),
        pytest.param(
            {"metrics": {"ttft": {"p50": 0.0}, "output_tps": 0.0}},
            ["f 7 gptq Int4", "vllm", "smoke", "-", "1", "ok", "0.0", "-", "0.0", "-", "-"],
            id="a-zero-is-a-number",
        ),
        pytest.param(
            {"status": "failed", "metrics": None, "failure": Failure(stage="start", message="it\ndied", exit_code=4)},
            ["f 7 gptq Int4", "vllm", "smoke", "-", "0", "failed", "-", "-", "-", "-", "start: it died"],
            id="a-failure",
        ),
        pytest.param(
            {"status": "failed", "metrics": None, "failure": Failure(stage="start", message="x" * 200, exit_code=4)},
            ["f 7 gptq Int4", "vllm", "smoke", "-", "0", "failed", "-", "-", "-", "-", f"start: {'x' * 92}…"],
            id="a-long-failure",
        ),
        pytest.param(
            {"status": "refused", "metrics": None, "decision": None, "config": {}},
            ["model=f", "-", "-", "-", "0", "refused", "-", "-", "-", "-", ""],
            id="what-could-not-be-composed",
        ),
        pytest.param(
            {
                "launch": {"base_url": "http://h:1"},
                "capabilities": {"model": "theirs"},
                "decision": {"engine": "external"},
            },
            ["theirs", "external", "smoke", "-", "1", "ok", "12.3", "4.6", "78.9", "-", "-"],
            id="an-external-servers-own-name",
        ),
    ],
)
def test_a_record_is_a_row(fields: dict[str, Any], row: list[str]) -> None:
    """With its numbers, or with the reason why it has none."""
    assert rows(record(**fields)) == [row]


def test_repeats_are_one_row_of_medians() -> None:
    """With every doubt that any of them has; a run without numbers does not count."""
    numbers = [{"ttft": {"p50": t}, "output_tps": 100.0} for t in (0.003, 0.001, 0.002)]
    flags: tuple[tuple[dict[str, Any], ...], ...] = (({"id": "short"},), (), ({"id": "noisy"}, {"id": "short"}))
    made = [record(metrics=each, flags=found) for each, found in zip(numbers, flags, strict=True)]
    failed = record(status="failed", metrics=None)
    _, row = report.result_table([[*made, failed]]).splitlines()
    assert row.split("smoke")[1].split() == ["-", "3", "failed", "2.0", "-", "100.0", "-", "short,", "noisy"]


@pytest.mark.parametrize(
    ("workload", "said"),
    [
        pytest.param({"concurrency": 4}, "4 at once", id="a-closed-loop"),
        pytest.param({"load": "poisson", "rate": 2.5, "concurrency": 8}, "poisson 2.5/s", id="at-a-rate"),
        pytest.param({"load": "offline", "concurrency": 8}, "offline", id="all-at-once"),
    ],
)
def test_a_row_says_how_requests_were_sent(workload: dict[str, Any], said: str) -> None:
    """So that the steps of a ladder can be told apart."""
    _, row = report.result_table([[record(config={"workload": {"name": "smoke", **workload}})]]).splitlines()
    assert f"  smoke     {said} " in row


def test_rows_are_aligned() -> None:
    """Whatever their lengths."""
    table = rows(record(), record(decision=None, metrics=None, overrides=("a-rather-long-override=1",)))
    assert [row[0] for row in table] == ["f 7 gptq Int4", "a-rather-long-override=1"]
    assert [row[5] for row in table] == ["ok", "ok"]


def test_a_family_is_a_row() -> None:
    """Its sizes and formats once each, in the published order; no list is a dash."""
    specs = [
        Row(size="7", format="gptq", quantizations=("Int4", "Int8"), hubs={"huggingface": "a"}, listed=("2024-08",)),
        Row(size="7", format="awq", quantizations=("Int4",), hubs={"huggingface": "a"}, listed=("2024-07",)),
    ]
    family = Family(family="f", rows=tuple(specs))
    assert report.family_row(family)["formats"] == ["gptq", "awq"]
    assert report.family_row(family)["listed"] == ["2024-07", "2024-08"]
    body = report.families_text([family, Family(family="none", rows=())]).splitlines()[1:]
    assert [line.split() for line in body] == [
        ["f", "7", "gptq", "awq", "2024-07", "2024-08", "-", "-"],
        ["none", "-", "-", "-", "-", "-"],
    ]
    assert report.rows_text([]) == ""


@pytest.mark.parametrize(
    ("text", "line"),
    [
        pytest.param("one\ntwo\r\x1b[0m\tthree", "one two  [0m three", id="control-characters"),
        pytest.param("日本 ü …", "日本 ü …", id="other-scripts"),
        pytest.param("x" * 1000, "x" * 1000, id="as-long-as-may-be"),
        pytest.param("x" * 1001, "x" * 999 + "…", id="too-long"),
    ],
)
def test_one_line(text: str, line: str) -> None:
    """A message is one line, whatever the values in it are."""
    assert report.one_line(text) == line


def test_a_plan_for_several_machines(ask: Ask) -> None:
    """The machine is named as several, and each has its line."""
    words = ("model=qwen2-instruct", "model.size=72", "model.format=pytorch", "hw=h100", "hw.gpus=4", "hw.nodes=2")
    said = ask("plan", *words).stdout
    assert " on h100: 2 machines of linux, 4 x NVIDIA H100" in said
    first, second = said.partition("launch, a line for each machine\n")[2].splitlines()[:2]
    assert first.startswith("  : machine 0 of 2; VLLM_HOST_IP=")
    assert second.startswith("  : machine 1 of 2; ")
    assert "one of 2 GPUs" in said
    assert "each of 4 of 2 x 4 x NVIDIA H100" in said

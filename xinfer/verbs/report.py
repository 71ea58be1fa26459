"""What people read: a plan with its reasons, a machine, and the table that closes a run."""

from __future__ import annotations

import shlex
import traceback
from typing import TYPE_CHECKING, Any

import msgspec

from xinfer.errors import Defect
from xinfer.judging.disagreement import TODAY
from xinfer.verbs import outlook

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from xinfer.catalog import Family, Spec
    from xinfer.facts import Hardware
    from xinfer.flow import Planned
    from xinfer.judging.disagreement import Disagreement
    from xinfer.judging.rules import Finding, Verdict
    from xinfer.plan import LaunchPlan, Memory
    from xinfer.record import Record

_WIDE = 100
"""How much of a failure's message fits a table; the record has all of it."""
_LONGEST = 1000
"""How much of an error is shown; the value that was refused may be of any length."""
_HEAD = (
    *("model", "engine", "workload", "load", "runs", "status"),
    *("TTFT ms", "TPOT ms", "out tok/s", "of limit", "flags"),
)
_MARK = {"met": "met    ", "failed": "FAILED ", "unknown": "unknown"}


def plan_text(planned: Planned) -> str:
    """Print the decision, every condition of every engine, and the launch plan."""
    decision = planned.decision
    lines = [f"{artefact(decision.spec)} on {machine(planned.ask.hardware)}", ""]
    if decision.verdicts:
        lines += ["engine        verdict  conditions not met", *map(_verdict, decision.verdicts), ""]
    lines += [f"decision: {decision.engine or 'no engine'}", *(f"  {reason}" for reason in decision.because), ""]
    for verdict in decision.verdicts:
        lines += [f"{verdict.engine}: {verdict.verdict}", *map(finding_text, verdict.findings), ""]
    if planned.today:
        said = [line for each in planned.today for line in _disagreement(each, planned.decision.rules)]
        lines += [f"today: {TODAY} judges otherwise", *said, ""]
    if planned.launch is not None:
        lines += _launch(planned, planned.launch)
    return "\n".join(lines).rstrip() + "\n"


def summary(planned: Planned) -> str:
    """Print the decision in a few lines, for a run that goes on."""
    decision = planned.decision
    return "\n".join(
        [
            f"model     {artefact(decision.spec)}",
            f"machine   {machine(planned.ask.hardware)}",
            f"engine    {decision.because[0]}",
            *(f"          {v.engine}: {v.verdict} ({', '.join(f.id for f in v.of('failed', 'unknown'))})"
              for v in decision.verdicts if v.verdict != "yes"),
        ]
    )  # fmt: skip


def artefact(spec: Spec) -> str:
    """Name an artefact: family, size, format, quantization and where it is published."""
    parts = [spec.family, spec.size and f"{spec.size.replace('_', '.')}B", spec.format, spec.quantization]
    where = f"{spec.id} on {spec.hub}" if spec.id else spec.note or "no published record"
    where = spec.id if spec.id and spec.hub == "local" else where
    return f"{' '.join(part for part in parts if part)} ({where.replace('{quantization}', spec.quantization or '')})"


def machine(hw: Hardware) -> str:
    """Name a machine in one line; what is not known is left out."""
    gpus = f"{hw.gpus} x {hw.gpu.name or hw.gpu.vendor or 'GPU'}" if hw.gpus else "no GPU" if hw.gpus == 0 else None
    machines = f"{hw.nodes} machines of " if hw.nodes > 1 else ""
    parts = [
        hw.os and f"{hw.os} {hw.arch or ''}".strip(),
        hw.cpu,
        hw.cores and f"{hw.cores} cores",
        hw.memory_gib and f"{hw.memory_gib:.1f} GiB",
        gpus,
    ]
    return f"{hw.profile}: {machines}{', '.join(part for part in parts if part)}"


def hardware_text(hw: Hardware) -> str:
    """Print every fact of a machine, unknown ones too."""
    import msgspec  # noqa: PLC0415 -- for this verb only

    facts: dict[str, Any] = msgspec.to_builtins(hw)
    gpu = facts.pop("gpu")
    facts |= {f"gpu.{key}": value for key, value in gpu.items()} if hw.gpus != 0 else {}
    return "".join(f"{key:<24}{_fact(value)}\n" for key, value in facts.items())


def json_text(document: object) -> str:
    """Print a document for programs; people may read it too."""
    return msgspec.json.format(msgspec.json.encode(document), indent=1).decode()


def one_line(text: str) -> str:
    """Make a message the one line that it must be, whatever the values in it are."""
    line = "".join(letter if letter.isprintable() else " " for letter in text)
    return line if len(line) <= _LONGEST else f"{line[: _LONGEST - 1]}…"


def defect(error: Exception) -> Defect:
    """Say in one line that xinfer itself broke; the details say where."""
    frames = tuple(line.rstrip() for line in traceback.format_tb(error.__traceback__)[-3:])
    return Defect(f"xinfer itself broke: {type(error).__name__}: {error}", details=frames)


def _fact(value: Any) -> str:
    if value is None:
        return "not known"
    if isinstance(value, bool):
        return str(value).lower()
    return " ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)


def _verdict(verdict: Verdict) -> str:
    missing = [f.id if f.result == "failed" else f"{f.id} (unknown)" for f in verdict.of("failed", "unknown")]
    return f"{verdict.engine:<14}{verdict.verdict:<9}{', '.join(missing) or '-'}"


def finding_text(finding: Finding) -> str:
    """Say what was found of one condition, and below it what would meet it."""
    fix = f"\n            {finding.fix}" if finding.fix else ""
    judged = f", judged for {finding.version}" if finding.version else ""
    said = f"{finding.fact} is {_fact(finding.observed)}; expected {finding.expected}{judged}"
    mark = finding.outside or _MARK[finding.result]
    return f"  {mark} {finding.id}: {said}  [{outlook.cite(finding.source)}]{fix}"


def _disagreement(each: Disagreement, rules: str) -> Iterator[str]:
    yield f"  {each.engine}: {each.today}, where {rules} says {each.verdict}"
    yield from (f"  {line}" for finding in each.findings for line in finding_text(finding).splitlines())


def _launch(planned: Planned, launch: LaunchPlan) -> Iterator[str]:
    if not launch.argv:
        yield f"nothing to install or start: {launch.url} is measured as it is"
        return
    yield from _memory(launch.memory)
    yield from outlook.prediction_text(planned.predicted)
    yield from outlook.advice_text(planned.advice)
    yield from ["install", *(f"  {shlex.join(step)}" for step in launch.install), ""]
    commands = [*launch.shell()][len(launch.install) :]
    title = "launch, a line for each machine" if launch.nodes else "launch"
    yield from [title, *(f"  {line}" for line in commands), ""]
    width = max(map(len, launch.because), default=0) + 2
    yield from ["because", *(f"  {flag:<{width}}{reason}" for flag, reason in launch.because.items()), ""]
    yield from (f"note: {note}" for note in launch.notes)


def _memory(memory: Memory) -> Iterator[str]:
    def gib(value: float | None) -> str:
        return "not known" if value is None else f"{value:.3f} GiB"

    fits = {True: "fits", False: "does not fit", None: "not known whether it fits"}[memory.fits]
    yield "memory"
    for name in ("weights", "kv", "overhead"):
        yield f"  {name:<10}{gib(getattr(memory, f'{name}_gib')):>12}  {memory.formula.get(f'{name}_gib', '')}"
    yield f"  {'total':<10}{gib(memory.total_gib):>12}  {fits}"
    yield f"  {'available':<10}{gib(memory.available_gib):>12}  {memory.formula.get('available_gib', '')}"
    if memory.largest_context is not None:
        tokens = f"{memory.largest_context} tokens"
        yield f"  {'context':<10}{tokens:>12}  {memory.formula.get('largest_context', '')}".rstrip()
    if memory.least_gpus is not None:
        yield f"  {'GPUs':<10}{memory.least_gpus:>12}  are the fewest that hold it, as this engine can split it"
    yield ""


def result_table(cells: Sequence[Sequence[Record]]) -> str:
    """Print one row per cell, medians where it ran several times; a flagged row says so.

    ``of limit`` is the part of the memory's measured bandwidth that decoding must have used. A row without numbers says
    why there are none.
    """
    return _aligned(result_rows(cells))


def result_rows(cells: Sequence[Sequence[Record]]) -> list[tuple[str, ...]]:
    """Return the table's cells, its head first."""
    return [_HEAD, *(_row(records) for records in cells)]


def _row(records: Sequence[Record]) -> tuple[str, ...]:
    """Return the cells of the table's row; of the runs, those count that have numbers."""
    last, able = records[-1], [record for record in records if record.metrics is not None]
    spec = (last.decision or {}).get("spec") or {}
    model = " ".join(str(spec[k]) for k in ("family", "size", "format", "quantization") if spec.get(k))
    if last.launch and last.launch["base_url"] and last.capabilities:
        model = last.capabilities["model"]
    workload = last.config.get("workload") or {}
    first = (
        model or " ".join(last.overrides), (last.decision or {}).get("engine") or "-", workload.get("name", "-"),
        _sent(last, workload), str(len(able)), last.status,
    )  # fmt: skip
    if not able:
        why = one_line(f"{last.failure.stage}: {last.failure.message}") if last.failure else ""
        return (*first, "-", "-", "-", "-", why if len(why) <= _WIDE else f"{why[: _WIDE - 1]}…")
    found = [record.metrics or {} for record in able]
    numbers = (
        _number([_p50(each, "ttft") for each in found], 1000), _number([_p50(each, "tpot") for each in found], 1000),
        _number([each.get("output_tps") for each in found], 1),
        _number([(record.limits or {}).get("decode_share") for record in able], 100, " %"),
    )  # fmt: skip
    flags = dict.fromkeys(str(flag["id"]) for record in able for flag in record.flags)
    return (*first, *numbers, ", ".join(flags) or "-")


def _sent(record: Record, workload: Mapping[str, Any]) -> str:
    """Say how requests were sent, and by whom if not by xinfer."""
    return f"{load(workload)}, {record.foreign['source']}" if record.foreign else load(workload)


def load(workload: Mapping[str, Any]) -> str:
    """Say how requests were sent: so many at once, or at a rate."""
    shape = workload.get("load", "closed")
    if shape == "closed":
        return f"{workload['concurrency']} at once" if "concurrency" in workload else "-"
    return f"{shape} {workload['rate']:g}/s" if workload.get("rate") else str(shape)


def _p50(metrics: Mapping[str, Any], name: str) -> float | None:
    value: float | None = (metrics.get(name) or {}).get("p50")
    return value


def _number(values: Iterable[float | None], scale: float, unit: str = "") -> str:
    from statistics import median  # noqa: PLC0415 -- a printed plan needs none

    known = [value for value in values if value is not None]
    return f"{median(known) * scale:.1f}{unit}" if known else "-"


def family_row(family: Family) -> dict[str, Any]:
    """Return what the catalogue has of a family: sizes, formats and the days on which it is listed."""
    specs = family.specs(None)
    return {
        "family": family.family,
        "sizes": list(dict.fromkeys(s.size for s in specs)),
        "formats": list(dict.fromkeys(s.format for s in specs)),
        "listed": sorted({day for s in specs for day in s.listed}),
        "context_length": family.context_length,
        "note": family.note,
    }


def families_text(families: Iterable[Family]) -> str:
    """Print one line per family."""
    return rows_text([family_row(family) for family in families])


def rows_text(rows: Sequence[dict[str, Any]]) -> str:
    """Print dictionaries with the same keys as an aligned table."""
    if not rows:
        return ""
    table = [tuple(rows[0]), *(tuple("-" if v in (None, []) else _fact(v) for v in row.values()) for row in rows)]
    return _aligned(table)


def _aligned(table: Sequence[Sequence[str]]) -> str:
    widths = [max(len(row[i]) for row in table) for i in range(len(table[0]))]
    return "\n".join("  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip() for row in table)

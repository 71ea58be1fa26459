"""Cells beside a baseline: which may be compared, by which numbers, and what can be said of each."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from xinfer import comparability
from xinfer.comparability import Difference
from xinfer.measuring import quantity, statistics
from xinfer.measuring.quantity import METRICS
from xinfer.measuring.statistics import Centre, Effect, Verdict

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from xinfer.comparability import Keys
    from xinfer.history import Cell
    from xinfer.record import Record


USUAL = ("output_tps", "ttft.p50", "tpot.p50", "e2e.p50", "peak_rss", "prefill_tps.p50", "decode_tps.p50")
"""The metrics that are compared where none are asked for, as far as either side has them."""


class Side(msgspec.Struct, frozen=True, kw_only=True):
    """One of the two cells of a pair."""

    letter: str
    """A for the baseline, then in the order of asking."""
    cell: str
    path: str
    model: str
    engine: str
    repeats: int
    """Runs that the numbers are of."""
    flags: tuple[str, ...] = ()
    """Of these runs; they have any only where no run is without."""
    left_out: tuple[str, ...] = ()
    """Other runs, and why they do not count."""


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One metric of a pair; values in the units of the record."""

    metric: str
    base: Centre | None
    other: Centre | None
    effect: Effect | None = None
    corrected_p: float | None = None
    """By Holm, for all rows of the whole comparison that could say anything; null for the others."""
    verdict: Verdict = "inconclusive"
    why: str = ""
    is_flagged: bool = False


class Pair(msgspec.Struct, frozen=True, kw_only=True):
    """A cell beside the baseline's."""

    base: Side
    other: Side
    workload: dict[str, Any]
    machine: str
    compared: tuple[Difference, ...] = ()
    """What is compared: the engine, its version and its settings, as far as they differ."""
    allowed: tuple[Difference, ...] = ()
    """What differs by the user's leave."""
    refused: tuple[Difference, ...] = ()
    """Why there are no rows."""
    rows: tuple[Row, ...] = ()


class Contestant:
    """A cell on one side, and those of its runs that count."""

    def __init__(self, letter: str, path: str, cell: Cell) -> None:
        self.letter, self.path, self.cell = letter, path, cell
        measured = [made for made in cell.runs if made.status == "ok" and made.metrics]
        self.able = tuple([made for made in measured if not made.flags] or measured)
        """The runs with numbers, without those that are flagged; where all are flagged, all."""
        self.keys: list[Keys] = []
        """What must be the same in all that it is compared with; more than one if its own runs are not alike."""
        for made in self.able:
            found = comparability.keys(made)
            self.keys += [] if found in self.keys else [found]

    def side(self) -> Side:
        """Describe it."""
        made, flags = self.able[0], (flag["id"] for run in self.able for flag in run.flags)
        others = [run for run in self.cell.runs if run.run not in {able.run for able in self.able}]
        spec, launch = (made.decision or {}).get("spec") or {}, made.launch or {}
        engine = (launch.get("engine"), launch.get("version"), launch.get("variant"))
        return Side(
            letter=self.letter, cell=self.cell.id, path=self.path, repeats=len(self.able),
            model=" ".join(str(spec[k]) for k in ("family", "size", "format", "quantization") if spec.get(k)),
            engine=" ".join(str(part) for part in engine if part), flags=tuple(dict.fromkeys(flags)),
            left_out=tuple(f"{run.run}: {_why(run)}" for run in others),
        )  # fmt: skip


def _why(made: Record) -> str:
    if made.failure is not None:
        return f"{made.status}: {made.failure.message}"
    return ", ".join(flag["id"] for flag in made.flags) or "no numbers"


def compare(
    base: Sequence[Contestant], others: Sequence[Contestant], *, metrics: Sequence[str] = (), allowed: Collection[str]
) -> list[Pair]:
    """Compare every cell with its counterparts in the baseline by some metrics, or the usual ones; each has numbers.

    Its counterparts are all that may be compared with it; of those, where there are any, the ones with its engine, and
    of those the ones with its settings. A cell without one is refused, with what keeps it from the nearest.
    """
    pairs = []
    for other in others:
        able = [each for each in base if not _refused(each, other, allowed)]
        for same in (_engine, _settings):
            able = [each for each in able if same(each) == same(other)] or able
        nearest = able or [min(base, key=lambda each: len(_refused(each, other, allowed)))]
        pairs += [_pair(each, other, metrics, allowed) for each in nearest]
    return _judged(pairs)


def _refused(base: Contestant, other: Contestant, allowed: Collection[str]) -> tuple[Difference, ...]:
    """Return what keeps two cells apart; all runs on both sides must be alike."""
    first, *rest = *base.keys, *other.keys
    found = {each.key: each for keys in rest for each in comparability.differences(first, keys, allowed)[0]}
    return tuple(found.values())


def _engine(each: Contestant) -> Any:
    return (each.able[0].launch or {}).get("engine")


def _settings(each: Contestant) -> dict[str, Any]:
    """Return the engine and what it was told, flat, by names that a user can type."""
    made = each.able[0]
    node, flat = made.config.get("engine") or {}, {"engine": _engine(each)}
    flat |= {f"engine.{key}": value for key, value in node.items() if key not in ("name", "args", "env", "version")}
    for part in ("args", "env"):
        flat |= {f"engine.{part}.{key}": value for key, value in (node.get(part) or {}).items()}
    return {**flat, "context_length": made.config.get("context_length")}


def _whole(each: Contestant) -> dict[str, Any]:
    """Return its settings, and what came of them."""
    made, launch = each.able[0], each.able[0].launch or {}
    found = {key: launch.get(key) for key in ("version", "variant", "dtype")}
    return {**_settings(each), **found, "xinfer": made.xinfer or None}


def _pair(base: Contestant, other: Contestant, metrics: Sequence[str], allowed: Collection[str]) -> Pair:
    made, refused = base.able[0], _refused(base, other, allowed)
    _, free = comparability.differences(base.keys[0], other.keys[0], allowed)
    one, two = _whole(base), _whole(other)
    unlike = (key for key in dict.fromkeys((*one, *two)) if one.get(key) != two.get(key))
    return Pair(
        base=base.side(), other=other.side(), workload=made.config.get("workload") or {},
        machine=_machine(made), refused=refused, allowed=free,
        compared=tuple(Difference(key=key, values=(one.get(key), two.get(key))) for key in unlike),
        rows=() if refused else tuple(_row(name, base, other) for name in metrics or _usual(base, other)),
    )  # fmt: skip


def _usual(base: Contestant, other: Contestant) -> list[str]:
    return [name for name in USUAL if _values(name, (*base.able, *other.able))]


def _machine(made: Record) -> str:
    facts = made.hardware or {}
    gpus = f"{facts['gpus']} x {(facts.get('gpu') or {}).get('name') or 'GPU'}" if facts.get("gpus") else None
    cores = facts.get("cores") and f"{facts['cores']} {'core' if facts['cores'] == 1 else 'cores'}"
    parts = (facts.get("cpu"), cores, gpus)
    return ", ".join(str(part) for part in parts if part)


def _row(metric: str, base: Contestant, other: Contestant) -> Row:
    one, two = _values(metric, base.able), _values(metric, other.able)
    flags = dict.fromkeys(flag["id"] for made in (*base.able, *other.able) for flag in made.flags)
    missing = " and ".join(side.letter for side, values in ((base, one), (other, two)) if not values)
    found = statistics.effect(one, two)
    why = f"not measured in {missing}" if missing else "" if found else "a value is not above 0"
    return Row(
        metric=metric, base=statistics.centre(one) if one else None, other=statistics.centre(two) if two else None,
        effect=found, is_flagged=bool(flags), why=f"flagged ({', '.join(flags)})" if flags else why,
    )  # fmt: skip


def _values(metric: str, runs: Sequence[Record]) -> list[float]:
    found = (quantity.value(made.metrics or {}, metric) for made in runs)
    return [each for each in found if each is not None]


def _judged(pairs: Sequence[Pair]) -> list[Pair]:
    """Give every row its verdict: the correction is for all of them together."""
    tested = [row for pair in pairs for row in pair.rows if _is_testable(row)]
    corrected = iter(statistics.holm([row.effect.p for row in tested if row.effect]))

    def judged(row: Row) -> Row:
        if row.is_flagged or row.effect is None:
            return row
        p = next(corrected) if _is_testable(row) else None
        better = METRICS[row.metric].higher_is_better
        verdict, why = statistics.judge(row.effect, 1.0 if p is None else p, rows=len(tested), higher_is_better=better)
        return msgspec.structs.replace(row, corrected_p=p, verdict=verdict, why=why)

    return [msgspec.structs.replace(pair, rows=tuple(map(judged, pair.rows))) for pair in pairs]


def _is_testable(row: Row) -> bool:
    return not row.is_flagged and row.effect is not None and min(row.effect.n) >= statistics.LEAST

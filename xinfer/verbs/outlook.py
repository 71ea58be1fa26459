"""What a plan says of its own speed: the choices that cost it, and what it is expected to reach."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from xinfer.judging.rules import Source
    from xinfer.planning.advice import Advice
    from xinfer.planning.prediction import Estimate, Prediction

_MANY = 1000
"""From here on whole numbers are exact enough."""


def cite(source: Source) -> str:
    """Name a source in one line."""
    return ", ".join(part for part in (f"{source.kind}: {source.title}", source.date, source.at) if part)


def advice_text(given: Sequence[Advice]) -> Iterator[str]:
    """Yield what costs speed, by what evidence, and below it what to type."""
    if given:
        yield "advice"
        for each in given:
            yield from (f"  {each.id}: {each.text}  [{cite(each.source)}]", f"            {each.override}")
        yield ""


def closing(given: Sequence[Advice]) -> str:
    """Say in one line what a run could be given to be faster; empty where nothing is known."""
    words = " ".join(each.override for each in given)
    return f"advice: {words}  ({', '.join(each.id for each in given)}; plan says why)" if given else ""


def prediction_text(found: Prediction | None) -> Iterator[str]:
    """Yield what is expected, how that came about, and how far such estimates were off."""
    if found is None:
        return
    yield "predicted"
    yield _line("decode", "at most {} tok/s", found.decode_tps, "for each request: " if found.batch > 1 else "")
    if found.batch > 1:
        yield _line("total", "at most {} tok/s", found.total_tps, f"{found.batch} requests at once: ")
    yield _line("prefill", "at least {} s", found.prefill_s, f"{found.prefill_tokens} tokens: ")
    yield ""


def _line(name: str, form: str, estimate: Estimate, about: str) -> str:
    if estimate.value is None:
        return f"  {name:<10}not known: {estimate.note}"
    value = form.format(f"{estimate.value:.3g}" if estimate.value < _MANY else f"{estimate.value:.0f}")
    said = value if estimate.is_bound else value.partition(" ")[2].partition(" ")[2]
    return f"  {name:<10}{said}  {about}{estimate.formula}{_grounds(estimate)}"


def _grounds(estimate: Estimate) -> str:
    """Say what the records make of a machine's limit, and how sure that is."""
    if estimate.efficiency is None:
        return ", the machine's limit: no record of a run like it, so the error is not known"
    count = "1 record" if estimate.records == 1 else f"the median of {estimate.records} records"
    share = f" x {estimate.efficiency:.3g}, {count} of the same {', '.join(estimate.alike)}"
    if estimate.error is None:
        return f"{share}; error not known: no record can be predicted from others"
    known = "1 record" if estimate.error_records == 1 else f"{estimate.error_records} records"
    return f"{share}; error {estimate.error:.0%} on {known}".replace("%", " %")

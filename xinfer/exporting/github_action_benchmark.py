"""For the action github-action-benchmark: its tools customBiggerIsBetter and customSmallerIsBetter, one a file."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

    from xinfer.exporting.subject import Figure, Subject


def document(subjects: Iterable[Subject], *, higher_is_better: bool) -> list[dict[str, Any]]:
    """Return an entry for each number of which more, or less, is better; its name is what the action compares by."""
    return [
        {
            "name": f"{each.name} / {figure.metric}",
            "unit": figure.about.unit,
            "value": value * figure.about.scale,
            **_range(figure),
            "extra": _extra(each),
        }
        for each in subjects
        for figure, value in each.known
        if figure.about.higher_is_better is higher_is_better
    ]


def _range(figure: Figure) -> dict[str, str]:
    if len(figure.values) == 1:
        return {}
    least, most = (end * figure.about.scale for end in (min(figure.values), max(figure.values)))
    return {"range": f"{least:.4g} to {most:.4g}"}


def _extra(each: Subject) -> str:
    facts = {
        "runs": str(each.runs), "engine": f"{each.engine} {each.version}".strip(), "cpu": each.cpu, "cell": each.cell,
        "flags": ", ".join(each.flags),
    }  # fmt: skip
    return "\n".join(f"{key}: {value}" for key, value in facts.items() if value)

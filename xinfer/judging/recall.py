"""What was found before: a function of some facts is computed once for each of their values.

A verdict depends on the few facts that an engine's conditions read, and most cells of a catalogue share those with
another cell. What is remembered is bounded, and equal to what would be computed again.
"""

from __future__ import annotations

from operator import itemgetter
from typing import TYPE_CHECKING, Any, TypeVar

from xinfer.facts import FACTS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    T = TypeVar("T")
    Judge = Callable[[Mapping[str, Any]], T]

MOST = 16384
"""How many answers are kept; then they are all forgotten. A verdict takes 250 to 400 bytes beside its findings."""
_WHY = "?model"
"""Why facts are not known: a text of its own for each record, of which there are few."""


def remembered(judge: Judge[T], names: Iterable[str]) -> Judge[T]:
    """Return a function that gives what ``judge`` gives, which may read the facts of these names and no other.

    Facts that lack a name or whose values cannot be looked up are judged each time. ``judge`` must not return null.
    """
    read = tuple(dict.fromkeys(names))
    if not read:
        return judge
    key, known = _key(read), dict[Any, "T"]()

    def recall(facts: Mapping[str, Any]) -> T:
        if _WHY in facts:
            return judge(facts)
        try:
            found = known.get(values := key(facts))
        except (KeyError, TypeError):
            return judge(facts)
        if found is None:
            if len(known) >= MOST:
                known.clear()
            found = known[values] = judge(facts)
        return found

    return recall


def _key(names: tuple[str, ...]) -> Callable[[Mapping[str, Any]], tuple[Any, ...]]:
    """Return a function that gives the values of facts, and the types of numbers: 1 and 1.0 are not said alike."""
    values = itemgetter(*(names if len(names) > 1 else names * 2))  # of one name alone it would not make a tuple
    numbers = [at for at, name in enumerate(names) if FACTS[name].kind == "number"]
    if not numbers:
        return values
    if len(numbers) == 1:
        place = numbers[0]
        return lambda facts: (*(found := values(facts)), type(found[place]))
    amounts = itemgetter(*numbers)
    return lambda facts: (*(found := values(facts)), *map(type, amounts(found)))

"""The table of ``fidelity.py``: how far each client is from the truth, and what it costs."""

from __future__ import annotations

import math
import statistics
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from fidelity import Row, Seen

HEAD = ("streams", "client", "TTFT p50", "TTFT p99", "TPOT", "tokens/s", "CPU per token (kernel)", "says so itself")
FULL = "full"
MOST_TTFT_S, MOST_PART = 0.005, 0.03
"""A client that is further off than this at the median has more than it can carry."""
NOTES = """\
Errors are what the client reports less what the server's log says it did with the same requests: TTFT in ms, TPOT and
tokens/s in percent; the median of the rounds. TTFT is what each tool calls so: all but xinfer count from before the
connection is made, which is a part of their error. p99 interpolates over each run's requests (8 at one stream, so it is
nearly the slowest). TPOT is (last - first) / (tokens - 1) of single requests: GuideLLM calls that inter-token latency,
AIPerf too (with the server's token count); for SGLang it is computed from the gaps it keeps, as its own goes on to
[DONE]. tokens/s is all tokens over the time from the first request to the end of the last: the tool's own figure, for
GuideLLM and AIPerf computed from the times of their requests. CPU is that of the client's whole tree of processes
between the first measured request's arrival and the last one's end, read from the kernel's clock of each process, over
all tokens of that time; importing is not in it. In brackets is what of it the system takes, to receive and to wake.
plain-loop is no client but epoll, recv and a stamp, in Python, for each token as it comes; xinfer rests while much
comes, and has its stamps from the kernel. Full speed is 16 streams from a server that does not wait. "Says so": whether
the tool itself warns, where its median TTFT is more than 5 ms off, or TPOT or tokens/s more than 3 %."""


def quantile(values: Iterable[float], p: float) -> float:
    """Interpolate between the two nearest ranks, as all of these tools do."""
    ordered = sorted(values)
    place = (len(ordered) - 1) * p
    below = ordered[math.floor(place)]
    return below + (ordered[math.ceil(place)] - below) * (place - math.floor(place))


def ttft_ms(p: float) -> Callable[[Seen, Seen], float]:
    """Return what computes the error of a quantile of TTFT."""
    return lambda seen, true: (quantile(seen.ttft, p) - quantile(true.ttft, p)) * 1e3


def tpot_percent(seen: Seen, true: Seen) -> float:
    """Return the error of the median TPOT."""
    return (quantile(seen.tpot, 0.5) / quantile(true.tpot, 0.5) - 1) * 100


def rate_percent(seen: Seen, true: Seen) -> float:
    """Return the error of the throughput."""
    return (seen.output_tps / true.output_tps - 1) * 100


def _median(rows: Sequence[Row], error: Callable[[Seen, Seen], float]) -> float:
    found = (error(row.seen, row.truth) for row in rows if row.seen and row.truth and row.seen.ttft)
    return statistics.median(found)


def _cost(row: Row) -> tuple[float, float]:
    return row.cpu_us_per_token or 0.0, row.kernel_us_per_token or 0.0


def cells(name: str, client: str, rows: Sequence[Row]) -> tuple[str, ...]:
    """Return one line: one client at one load, over all rounds."""
    fine = [row for row in rows if row.seen and row.truth and row.seen.ttft]
    if not fine:
        return (name, client, "-", "-", "-", "-", "-", f"failed: {rows[0].error}")
    p50, p99 = _median(fine, ttft_ms(0.5)), _median(fine, ttft_ms(0.99))
    tpot, rate = _median(fine, tpot_percent), _median(fine, rate_percent)
    cost, kernel = (statistics.median(each) for each in zip(*map(_cost, fine), strict=True))
    paced = name != FULL
    is_off = (paced and (abs(p50) > MOST_TTFT_S * 1e3 or abs(tpot) > MOST_PART * 100)) or abs(rate) > MOST_PART * 100
    says = sum(1 for row in fine if row.seen and row.seen.says)
    verdict = f"{'yes' if says else 'no'}{f', {says} of {len(fine)}' if says and len(fine) > 1 else ''}"
    return (
        name, fine[0].source, f"{p50:+.2f}" if paced else "-", f"{p99:+.2f}" if paced else "-",
        f"{tpot:+.2f} %" if paced else "-", f"{rate:+.2f} %", f"{cost:.1f} ({kernel:.1f}) us",
        verdict if is_off or says else "",
    )  # fmt: skip


def markdown(rows: Sequence[Row]) -> str:
    """Return the table with its notes."""
    loads, clients = dict.fromkeys(row.load for row in rows), dict.fromkeys(row.client for row in rows)
    lines = [HEAD, ("---",) * len(HEAD)]
    for name in loads:
        for client in clients:
            found = [row for row in rows if (row.load, row.client) == (name, client)]
            lines += [cells(name, client, found)] if found else []
    table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    return f"{table}\n\n{NOTES}\n"

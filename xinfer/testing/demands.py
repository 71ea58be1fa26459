"""What every engine owes xinfer, one function each: silent when it is kept, Broken with the reason when it is not."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
from itertools import takewhile
from typing import TYPE_CHECKING

from xinfer import errors
from xinfer.errors import XinferError
from xinfer.judging import rules
from xinfer.testing.wire import DONE

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from xinfer.judging.rules import Verdict
    from xinfer.plan import LaunchPlan
    from xinfer.testing.wire import Answer

SHELL = "/bin/bash"
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_ACTS = "();<>|&`$"
"""What a shell acts on where it is not quoted."""
_FLAG = re.compile(r"--?[A-Za-z]")
_WITH_VALUE = {"-m", "-c", "-W", "-X"}
"""Options of Python itself that are followed by a value."""
_TOLD_APART = 3.0
_NOTICEABLE_S = 0.05


class Broken(AssertionError):  # noqa: N818 -- it is the contract that is broken
    """The engine does not keep its contract."""


def demand(holds: object, message: str) -> None:
    """Raise Broken with the message unless something holds."""
    if not holds:
        raise Broken(message)


# Verdicts


def verdict_is_sourced(found: Verdict, where: str) -> None:
    """Three-valued, the Kleene sum of its findings, and each of them with a source that can be looked up."""
    said = f"{where}: the verdict on {found.engine}"
    demand(found.findings, f"{said} rests on no condition; the rules say nothing of this engine")
    expected = rules.answer(found.findings)
    demand(found.verdict == expected, f"{said} is {found.verdict!r}, and its findings make {expected!r}")
    for finding in found.findings:
        lacks = [key for key in ("title", "where") if not getattr(finding.source, key).strip()]
        demand(not lacks, f"{said}: the source of {finding.id} has no {', '.join(lacks)}")
        readable = finding.fact not in ("engine.plugin", "engine.rules")
        demand(readable, f"{said}: {finding.observed}")


# Plans


def flags_have_reasons(launch: LaunchPlan, where: str) -> None:
    """Say why for each flag and each variable, and for nothing else."""
    flags = {word.partition("=")[0] for word in _own_words(launch.argv) if _FLAG.match(word)}
    for name in (*sorted(flags), *launch.env):
        demand(launch.because.get(name, "").strip(), f"{where}: {name} has no reason in because")
    for name in launch.because:
        is_there = name in flags or name in launch.env or name in launch.argv
        demand(is_there, f"{where}: because explains {name}, which is not in the plan")


def _own_words(argv: Sequence[str]) -> Sequence[str]:
    """Return a command line without its program, and without Python's own options where that is the program."""
    if "python" not in argv[0].rpartition("/")[2]:
        return argv[1:]
    options = [*takewhile(lambda word: word.startswith("-"), argv[1:])]
    with_value = any(option in _WITH_VALUE for option in options)
    return argv[1 + len(options) + with_value :]


def can_be_pasted(launches: Iterable[tuple[str, LaunchPlan]]) -> None:
    """A shell takes every line of a plan for the words that the plan means, whatever is in its paths."""
    lines: list[tuple[str, str, list[str]]] = []
    for where, launch in launches:
        for variable in launch.env:
            demand(_VARIABLE.fullmatch(variable), f"{where}: {variable!r} is no name of a variable")
        assigned = [*launch.without, *(f"{name}={value}" for name, value in launch.env.items())]
        for line, words in zip(launch.shell(), (*launch.install, [*assigned, *launch.argv]), strict=True):
            demand(words, f"{where}: a line of the plan is empty")
            demand("\n" not in line, f"{where}: a command spans lines: {line}")
            demand(_split(line) == list(words), f"{where}: a shell would take this line apart: {line}")
            lines.append((where, line, list(words)))
    script = "".join(f"printf '%s\\0' {line}\nprintf '\\n'\n" for _, line, _ in lines)
    for text in ("".join(f"{line}\n" for _, line, _ in lines), script):
        done = subprocess.run([SHELL, "-n"], input=text.encode(), capture_output=True, check=False)
        demand(not done.returncode, f"{SHELL} cannot read the plans: {done.stderr.decode(errors='replace').strip()}")
    done = subprocess.run([SHELL], input=script.encode(), capture_output=True, check=False)
    for (where, line, words), printed in zip(lines, done.stdout.split(b"\0\n"), strict=False):
        found = printed.decode(errors="replace").split("\0")
        demand(found == words, f"{where}: {SHELL} takes this line for {found}: {line}")


def _split(line: str) -> list[str] | None:
    """Split as a shell does; what it would act on is a word of its own, and a line that never ends is None."""
    words = shlex.shlex(line, posix=True, punctuation_chars=_ACTS)
    words.whitespace_split = True
    words.commenters = ""
    try:
        return list(words)
    except ValueError:
        return None


# Answers


def stream_is_whole(answer: Answer, where: str) -> None:
    """Events alone, text in several of them, one reason to end, one count, and nothing behind the end."""
    said = " ".join([*answer.strays, *(event.data for event in answer.events)])[:300]
    demand(answer.status == 200, f"{where}: status {answer.status}: {said}")  # noqa: PLR2004 -- HTTP's word for yes
    demand(answer.kind == "text/event-stream", f"{where}: its content type is {answer.kind}, not text/event-stream")
    demand(not answer.strays, f"{where}: lines that are no part of an event stream: {answer.strays[:3]}")
    datas = [event.data for event in answer.events]
    demand(DONE not in datas[:-1], f"{where}: {DONE} is not the end, or comes twice")
    for event in answer.events:
        demand(event.document or event.data == DONE, f"{where}: an event is no JSON object: {event.data[:200]}")
        demand("error" not in (event.document or {}), f"{where}: an error in the stream: {event.data[:200]}")
    demand(answer.text.strip(), f"{where}: the stream has no text")
    counts = f"{len(answer.usages)} blocks of usage, where xinfer needs exactly one"
    demand(len(answer.usages) == 1, f"{where}: {counts}")
    demand(len(answer.finish_reasons) == 1, f"{where}: finish_reason is given {len(answer.finish_reasons)} times")
    ends = next(i for i, event in enumerate(answer.events) if event.choice.get("finish_reason"))
    demand(not any(e.text for e in answer.events[ends + 1 :]), f"{where}: there is text behind the finish_reason")


def chunks_carry_text(answer: Answer, where: str) -> None:
    """A stream comes in pieces: at least one for every four tokens."""
    pieces, tokens = sum(bool(event.text) for event in answer.events), answer.tokens or 0
    demand(pieces >= tokens / 4, f"{where}: {tokens} tokens came in {pieces} pieces, which is no stream")


def length_is(tokens: int, answer: Answer, where: str) -> None:
    """Exactly as many tokens as were asked for, and the server says that this is why it ended."""
    reasons = answer.finish_reasons
    demand(reasons == ("length",), f"{where}: asked for {tokens} tokens; finish_reason is {', '.join(reasons)}")
    demand(answer.tokens == tokens, f"{where}: asked for {tokens} tokens; completion_tokens is {answer.tokens}")


def nothing_is_remembered(pairs: Sequence[tuple[Answer, Answer]], *, reports: bool) -> None:
    """A prompt that was sent before costs what it cost the first time; ``reports`` says that the server counts."""
    counts = [answer.cached_tokens for pair in pairs for answer in pair]
    if reports:
        known = None not in counts
        demand(
            known,
            "the server does not say how many tokens were cached; if it never does, reports_cached_tokens = False",
        )
        demand(not any(counts), f"the same prompt twice: cached_tokens is {counts}, and must be 0")
    else:
        silent = set(counts) == {None}
        demand(silent, f"cached_tokens is {counts}, and reports_cached_tokens is False; say True")
    first, again = (_median([pair[i].ttft_s or 0.0 for pair in pairs]) for i in (0, 1))
    is_alike = again * _TOLD_APART >= first or first - again < _NOTICEABLE_S
    demand(is_alike, f"the same prompt twice: first text after {first:.3f} s, then after {again:.3f} s: it is cached")


def memory_is_reported(pairs: Sequence[tuple[Answer, Answer]]) -> None:
    """An engine that cannot forget says so: the second time it counts cached tokens, so that a record shows it."""
    counts = [pair[1].cached_tokens for pair in pairs]
    told = "defeats_prefix_cache is False, so a repeated prompt must be reported as cached"
    demand(all(counts), f"{told}; cached_tokens is {counts}")


def _median(values: Sequence[float]) -> float:
    return sorted(values)[len(values) // 2]


# Errors

_STAGES = {kind.stage for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, XinferError)}


def error_is_clear(error: XinferError, *, names: Sequence[str], seconds: float, within_s: float, where: str) -> None:
    """One line with a stage, in time; it, or the log lines that it carries, names what is wrong."""
    text = str(error)
    demand(error.stage in _STAGES and error.stage != "xinfer", f"{where}: the stage is {error.stage!r}")
    demand(text.strip() and "\n" not in text, f"{where}: the message is not one line: {text!r}")
    demand("Traceback" not in text, f"{where}: the message is a traceback: {text}")
    in_time = seconds < within_s
    demand(in_time, f"{where}: it took {seconds:.0f} s; the engine must end by itself within {within_s:g} s: {text}")
    everything = json.dumps([text, *error.details], ensure_ascii=False)
    for name in names:
        demand(json.dumps(name, ensure_ascii=False)[1:-1] in everything, f"{where}: nothing names {name}: {text}")

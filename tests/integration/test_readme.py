"""The README is true: its commands do what it says, its examples are real, and every name in it exists.

``XINFER_UPDATE_README=1 pytest tests/integration/test_readme.py`` writes anew what asks and starts nothing.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest
from recorded import repeats, write

from xinfer import cli, engines, flow
from xinfer.config import launcher
from xinfer.config.compose import Composer
from xinfer.config.document import read
from xinfer.environments import removal
from xinfer.errors import XinferError
from xinfer.measuring import validity
from xinfer.testing import model_files
from xinfer.verbs import compare, matrix, table

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    Ask = Callable[..., subprocess.CompletedProcess[str]]

README = Path(__file__).parents[2] / "README.md"
TEXT = README.read_text(encoding="utf-8")
START = ".venv/bin/python -m xinfer"
STARTING = {"run", "serve", "provision", "parity"}
"""The verbs that install or start something."""


class Command(NamedTuple):
    """One command line of the README that calls xinfer."""

    argv: list[str]
    may_be_refused: bool
    """Whether ``|| true`` follows it."""

    @property
    def line(self) -> table.Line:
        return cli.parse(self.argv)


def commands() -> list[Command]:
    """Return every indented command line that calls xinfer, alone or after its installation."""
    found = []
    for line in re.findall(rf"^ {{4}}(.*{re.escape(START)}.*)$", TEXT, re.MULTILINE):
        words, _, rest = line.partition(START)[2].partition("||")
        found.append(Command(shlex.split(words), rest.strip() == "true"))
    return found


def asks(command: Command) -> bool:
    """Tell whether the command only asks, so that it can be run here as it stands."""
    return bool({"--help", "--version", "-h"} & set(command.argv)) or command.line.verb not in STARTING


ASKING = [command for command in commands() if asks(command)]
RUNNING = [command for command in commands() if not asks(command)]


def name(command: Command) -> str:
    return " ".join(command.argv) or "no-arguments"


def test_the_commands_are_found() -> None:
    """The main line without arguments, a sweep, an external server; and every verb that only asks."""
    assert RUNNING[0].argv == []
    assert any(command.line.multirun for command in RUNNING)
    assert any("engine=external" in command.argv for command in RUNNING)
    assert {command.line.verb for command in ASKING if "--help" not in command.argv} == set(table.VERBS) - STARTING


def measured(command: Command) -> Sequence[Path]:
    """Return where the command looks for records."""
    is_of_records = command.argv[0] in {"compare", "export"}
    return command.line.paths if is_of_records else ()


@pytest.mark.parametrize("command", ASKING, ids=name)
def test_a_command_does_what_the_readme_says(command: Command, tmp_path: Path) -> None:
    """It answers and touches nothing; where the README expects a refusal, it is one."""
    (tmp_path / "my-model.gguf").write_bytes(model_files.gguf())
    (tmp_path / "matrix").symlink_to(README.parent / "matrix")
    for number, path in enumerate(measured(command)):
        write(tmp_path / path, repeats([100.0 + number, 101.0], cell=f"cell-{number}"))
    before = sorted(tmp_path.iterdir())
    environ = {**os.environ, "XINFER_HOME": str(tmp_path / "home")}
    words = [sys.executable, "-m", "xinfer", *command.argv]
    done = subprocess.run(words, cwd=tmp_path, env=environ, capture_output=True, text=True, check=False)
    assert done.returncode == (3 if command.may_be_refused else 0), done.stderr
    assert done.stdout
    assert bool(done.stderr) is (command.may_be_refused or "matrix" in command.argv)  # which says there how many fit
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize("command", RUNNING, ids=name)
def test_a_command_that_starts_something_can_be_planned(command: Command) -> None:
    """Every cell of it is understood, and at least one of them can be carried out."""
    composer = Composer(engines.conf_directories())
    _, overrides = launcher.chosen(command.line.overrides, composer)
    cells = composer.expand(overrides) if command.line.multirun else [overrides]
    planned = [flow.plan(flow.ask(composer.compose(cell), composer), composer) for cell in cells]
    assert any(each.launch for each in planned)


# Examples


def example(which: str) -> str:
    """Return what stands in the fenced block between two markers."""
    block = re.search(rf"<!-- example: {which} -->\n```\w*\n(.*?)```\n<!-- /example -->", TEXT, re.DOTALL)
    assert block, f"README.md has no example {which!r}: <!-- example: {which} -->, a fenced block, <!-- /example -->"
    return block[1]


def normal(text: str, home: Path) -> str:
    """Replace what differs between two machines: the cache, the interpreter, and the hash over both."""
    text = text.replace(str(home), "~/.cache/xinfer")
    text = re.sub(r"^  \S+(?= -m venv )", "  python3", text, flags=re.MULTILINE)
    return re.sub(r"(environments/\S+?)-[0-9a-f]{8}\b", r"\1-0a1b2c3d", text)


@pytest.mark.parametrize("which", ["plan", "why", "matrix"])
def test_an_answer_in_the_readme_is_todays(
    ask: Ask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, which: str
) -> None:
    """Of the very command that stands above it."""
    shown = TEXT.partition(f"<!-- example: {which} -->")[0].rstrip().splitlines()[-1].strip()
    monkeypatch.chdir(README.parent)
    output = normal(ask(*shlex.split(shown.removeprefix(START))).stdout, tmp_path / "home")
    if os.environ.get("XINFER_UPDATE_README"):
        marked = re.compile(rf"(<!-- example: {which} -->\n).*?(<!-- /example -->)", re.DOTALL)
        text = README.read_text(encoding="utf-8")
        README.write_text(marked.sub(lambda m: f"{m[1]}```text\n{output}```\n{m[2]}", text), encoding="utf-8")
        return
    assert example(which) == output


def columns(text: str, heads: tuple[str, ...]) -> list[list[str]]:
    """Take an aligned table apart by where its heads stand."""
    lines = text.splitlines()
    first = next(number for number, line in enumerate(lines) if all(head in line for head in heads))
    starts = [lines[first].index(head) for head in heads]
    ends = [*starts[1:], None]
    return [[line[a:b].strip() for a, b in zip(starts, ends, strict=True)] for line in lines[first + 1 :] if line]


def test_the_run_in_the_readme_is_a_run() -> None:
    """Its table has the default model, llama.cpp, and numbers."""
    text = example("run")
    heads = (
        "model",
        "engine",
        "workload",
        " load ",
        "runs",
        "status",
        "TTFT ms",
        "TPOT ms",
        "out tok/s",
        "of limit",
        "flags",
    )
    (row,) = [row for row in columns(text, heads) if row[5] in ("ok", "refused", "failed")]
    assert row[:6] == ["smollm2-135m-instruct 0_135 ggufv2 Q4_1", "llama_cpp", "smoke", "1 at once", "1", "ok"]
    assert all(float(number) > 0 for number in row[6:9])
    for step in ("model     smollm2-135m-instruct", "engine    llama_cpp", "ready after ", "record: runs/"):
        assert step in text


def test_the_ladder_in_the_readme_is_a_ladder() -> None:
    """Every engine at 1, 4 and 16 at once, each with its distance from the physical limit."""
    heads = ("model", "engine", "workload", " load ", "runs", "status", "TTFT ms", "of limit", "flags")
    rows = [row for row in columns(example("ladder"), heads) if row[5] == "ok"]
    names = set(Composer(engines.conf_directories()).options("engine")) - {"auto", "external"}
    assert {(row[1], row[3]) for row in rows} == {(name, f"{n} at once") for name in names for n in (1, 4, 16)}
    assert all(0 < float(row[7].removesuffix(" %")) < 100 for row in rows)


def test_the_sweep_in_the_readme_came_home() -> None:
    """Both cells of the command above it, from a process of joblib's."""
    text = example("joblib")
    rows = columns(text, ("model", "engine", "workload", " load ", "runs", "status", "TTFT ms", "flags"))
    assert [(row[3], row[5]) for row in rows if row[5] == "ok"] == [("1 at once", "ok"), ("2 at once", "ok")]
    assert text.count("came home from ") == 2
    assert text.endswith("2 ok, 0 refused, 0 failed\n2 records below joblib\n")


def test_the_tuning_in_the_readme_is_one() -> None:
    """Of every setting that the engine's plugin declares, the plan's own first, as many times as the command says."""
    text = example("tune")
    keys = [key for key in read(engines.get("llama_cpp").conf / "tunables" / "llama_cpp.yaml") if key in text]
    rows = columns(text, ("#", "output_tps tok/s", *keys, "remarks"))
    trials = [row for row in rows if row[0].isdecimal()]
    assert len(keys) == 7
    assert len(trials) == 5
    assert trials[0][2:-1] == ["-"] * len(keys)
    assert all(float(row[1]) > 0 for row in trials)
    assert text.endswith(("\nnothing is kept\n", " experiment=fast\n"))


def test_the_speed_in_the_readme_is_a_table() -> None:
    """With the goals, and what was measured against each."""
    rows = columns(example("bench"), ("what", "measured", "goal"))
    goals = {goal for _, _, goal in rows} - {""}
    assert goals == {"at most 1.5", "below 2 s", "100,000/s or more", "below 20 µs"}
    (ratio,) = [float(measured) for _, measured, goal in rows if goal == "at most 1.5"]
    (grid,) = [float(measured.removesuffix(" s")) for _, measured, goal in rows if goal == "below 2 s"]
    verdicts = [float(measured.removesuffix(" µs")) for _, measured, goal in rows if goal == "below 20 µs"]
    (rate,) = [measured.removesuffix("/s") for _, measured, goal in rows if goal == "100,000/s or more"]
    assert len(verdicts) == 5
    assert float(rate.replace(",", "")) >= 100_000
    assert 0 < ratio <= 1.5
    assert 0 < grid < 2
    assert all(0 < verdict < 20 for verdict in verdicts)


def test_the_plans_in_the_readme_are_as_good_as_flags_by_hand() -> None:
    """Each engine's, within a twentieth, and within 8 GiB."""
    heads = ("engine", "way", "tok/s c=1", "x c=1", "tok/s c=4", "x c=4", "ready s", "peak GiB")
    found = columns(example("engines"), heads)
    plans = {engine: [float(one), float(four)] for engine, way, _, one, _, four, _, _ in found if way == "plan"}
    assert set(plans) == set(Composer(engines.conf_directories()).options("engine")) - {"auto", "external"}
    assert min(ratio for ratios in plans.values() for ratio in ratios) >= 0.95
    assert max(float(row[-1]) for row in found) < 8


def test_our_clients_numbers_in_the_readme_are_the_nearest_and_the_cheapest() -> None:
    """At every paced load, beside every other that is a client."""
    line = r"^\| (\d+) \| ([\w-]+).*? \| \+([\d.]+) \| \+([\d.]+) \|.*\| ([\d.]+) \([\d.]+\) us \|"
    rows = [row for row in re.findall(line, TEXT, re.MULTILINE) if row[1] != "plain-loop"]
    assert len(rows) == 20
    for streams in ("1", "32", "128", "512"):
        found = {client: (float(a), float(b), float(c)) for load, client, a, b, c in rows if load == streams}
        ours = found.pop("xinfer")
        assert all(one < other for each in found.values() for one, other in zip(ours, each, strict=True))


# Names


def row(key: str) -> list[str]:
    """Return every name in backticks in a row of the table of keys."""
    found = re.search(rf"^\| `{key}=` \|(.*)\|$", TEXT, re.MULTILINE)
    assert found, f"README.md has no row for {key}="
    return [name for name in re.findall(r"`([^`]+)`", found[1]) if "=" not in name]


@pytest.mark.parametrize("group", ["hw", "engine", "workload", "rules"])
def test_every_option_is_in_the_readme_and_exists(group: str) -> None:
    """Neither more nor fewer."""
    assert sorted(row(group)) == sorted(Composer(engines.conf_directories()).options(group))


def test_every_flag_is_in_the_readme_and_exists() -> None:
    """Whoever sees one finds what it means."""
    code = Path(validity.__file__).read_text(encoding="utf-8")
    rows = re.findall(r"^\| (`\w+`(?:, `\w+`)*) \|", TEXT.partition("| flag |")[2].partition("\n\n")[0], re.MULTILINE)
    assert {name for row in rows for name in re.findall(r"\w+", row)} == set(re.findall(r'\bid="(\w+)"', code))


def test_every_exit_code_is_in_the_readme_and_exists() -> None:
    """Those of the errors, that of success, and that of an interrupt."""
    kinds = [XinferError]
    for kind in kinds:
        kinds += [each for each in kind.__subclasses__() if each.__module__.startswith("xinfer.")]
    exist = {0, 130, *(kind.exit_code for kind in kinds[1:])}
    told = TEXT.partition("| exit code |")[2].partition("\n\n")[0]
    assert {int(code) for code in re.findall(r"^\| (\d+) \|", told, re.MULTILINE)} == exist


@pytest.mark.parametrize("code", sorted({c for c in re.findall(r"`([^`\n]+)`", TEXT) if re.search(r"[\w.]=\w", c)}))
def test_every_override_in_the_readme_is_understood(code: str) -> None:
    """Whatever is shown in the text can be typed."""
    words = [word for word in shlex.split(code) if re.match(r"[\w.]+=\w|~", word)]
    for own, asked in (({"metric", "allow"}, compare.asked), ({"measure", "filter"}, matrix.asked)):
        if {word.partition("=")[0] for word in words} <= own:
            asked(words)
            return
    base = ["model=qwen2-instruct", "hw=cuda", *(["engine=llama_cpp"] if "engine.build" in code else [])]
    composer = Composer(engines.conf_directories())
    config = composer.compose([*base, *removal.asked(words)[0]])
    if "source" not in config["model"]:  # a model of nobody's catalogue would be looked for
        flow.ask(config, composer)


def test_every_file_in_the_readme_exists() -> None:
    """Links lead somewhere."""
    links = re.findall(r"\]\(([^)#:]+)\)", TEXT)
    assert [link for link in links if not (README.parent / link).exists()] == []
    assert "CONTRIBUTING.md" in links

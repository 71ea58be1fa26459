"""Which version of each engine a pack judges: chosen, pinned for the machine, or the pack's own."""

from __future__ import annotations

import platform
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from xinfer import engines
from xinfer.facts import FACTS, Gpu, Hardware
from xinfer.judging import packs, releases

if TYPE_CHECKING:
    from collections.abc import Callable

    from xinfer.judging.rules import Pack

SERVER = Hardware(profile="server", os="linux", arch="x86_64", gpus=0)
CARD = Hardware(profile="card", os="linux", gpus=1, gpu=Gpu(vendor="nvidia", compute_capability="9.0"))
AMD = Hardware(profile="amd", os="linux", gpus=1, gpu=Gpu(vendor="amd"))


def pack(**more: Any) -> Pack:
    """Return a pack in which vLLM's version matters."""
    sources = {"page": {"kind": "page", "title": "A guide", "date": "2026-11-22", "where": "example.org"}}
    rule = {"fact": "hw.os", "eq": "linux", "source": "page", "since": "0.24.0"}
    body = {"name": "mine", "sources": sources, "engines": {"vllm": {"it": rule}, "mlx": {}, "markov": {}}}
    return packs.load({**body, "versions": {"vllm": "0.1.0", "markov": "7.0"}, **more}, "mine.yaml")


@pytest.mark.parametrize(
    ("machine", "node", "version"),
    [
        pytest.param(CARD, {"name": "auto"}, "0.33.0", id="what-is-installed-for-cuda"),
        pytest.param(SERVER, {"name": "auto"}, "0.32.0", id="what-is-installed-for-a-cpu"),
        pytest.param(AMD, {"name": "auto"}, "0.18.0", id="what-is-installed-for-rocm"),
        pytest.param(CARD, {"name": "vllm", "version": "0.23.0"}, "0.23.0", id="what-was-typed"),
        pytest.param(CARD, {"name": "auto", "version": "0.23.0"}, "0.23.0", id="what-was-typed-for-any"),
        pytest.param(CARD, {"name": "mlx", "version": "0.23.0"}, "0.33.0", id="what-was-typed-for-another"),
        pytest.param(CARD, {"name": "vllm", "torch_backend": "cu129"}, "0.30.0", id="what-the-settings-ask-for"),
        pytest.param(CARD, {"name": "vllm", "python": "/mine/python"}, None, id="the-users-own-is-not-known"),
        pytest.param(CARD, {"name": "vllm", "python": "/mine/python", "version": "0.23.0"}, "0.23.0", id="unless-said"),
        pytest.param(
            Hardware(profile="arc", gpus=1, gpu=Gpu(vendor="intel")), {"name": "auto"}, "0.1.0", id="no-package-there"
        ),
    ],
)
def test_the_version_of_an_engine(machine: Hardware, node: dict[str, Any], version: str | None) -> None:
    """A typed one wins, then the one that would be installed on the machine, then the pack's."""
    settled = releases.settled(pack(), machine, node)
    assert settled.interpreter is None, "that of another machine is not known"
    assert settled.versions["vllm"] == version
    chosen = node.get("version") if node["name"] == "auto" else None
    assert settled.versions["markov"] == (chosen or "7.0"), "an engine without a plugin has the pack's"


@pytest.mark.parametrize(
    ("node", "version"),
    [
        pytest.param({"name": "auto"}, "0.1.0", id="its-own"),
        pytest.param({"name": "vllm", "version": "0.23.0"}, "0.23.0", id="what-was-typed"),
        pytest.param({"name": "vllm", "python": "/mine/python"}, None, id="the-users-own-is-not-known"),
    ],
)
def test_a_pack_about_a_day_judges_the_versions_of_that_day(node: dict[str, Any], version: str | None) -> None:
    """Not the ones that would be installed today; of engines that it says nothing of, those."""
    settled = releases.settled(pack(catalog="2024-08"), CARD, node)
    assert (settled.versions["vllm"], settled.versions["mlx"]) == (version, "0.32.2")


@pytest.mark.parametrize(
    ("node", "expected"),
    [
        pytest.param({"name": "auto"}, platform.python_version(), id="xinfers-own"),
        pytest.param({"name": "vllm", "python": "/mine/python"}, None, id="the-users-own-is-not-known"),
    ],
)
def test_the_python_of_this_machine(node: dict[str, Any], expected: str | None) -> None:
    """Environments are made with the one that runs xinfer; a condition may ask for it and for nothing else."""
    rule = {"fact": "engine.interpreter", "version": ">=3.0", "source": "page"}
    asking = pack(engines={"vllm": {"it": rule}}, versions={})
    settled = releases.settled(asking, CARD, node, is_here=True)
    assert settled.interpreter == expected
    (finding,) = settled.judge("vllm", dict.fromkeys(FACTS)).findings
    assert (finding.result, finding.observed) == ("met" if expected else "unknown", expected)


def test_a_pack_that_asks_for_no_version_is_left_as_it_is() -> None:
    """No plugin's file is read for it."""
    plain = pack(engines={"vllm": {}}, versions={})
    assert releases.settled(plain, CARD, {"name": "auto"}) is plain


@pytest.mark.parametrize(
    ("method", "version"),
    [
        pytest.param(lambda _hardware, _settings: "3.1", "3.1", id="says-it"),
        pytest.param(lambda _hardware, _settings: None, None, id="has-none-there"),
        pytest.param(lambda _hardware, _settings: 3.1, None, id="says-no-text"),
        pytest.param(lambda _hardware: "3.1", None, id="takes-other-arguments"),
        pytest.param(None, None, id="has-no-such-method"),
    ],
)
def test_an_adapter_that_pins(method: Callable[..., Any] | None, version: str | None) -> None:
    """A plugin may have the method or not; what goes wrong in it does not go wrong here."""
    adapter: Any = SimpleNamespace(name="mine") if method is None else SimpleNamespace(name="mine", pinned=method)
    assert engines.pinned(adapter, CARD, {}) == version


@pytest.mark.parametrize(
    ("engine", "machine", "settings", "version"),
    [
        pytest.param("sglang", CARD, {}, "0.5.23", id="sglang"),
        pytest.param("sglang", AMD, {}, None, id="sglang-is-not-packaged-for-rocm"),
        pytest.param("transformers", AMD, {}, "5.23.0", id="transformers"),
        pytest.param("llama_cpp", SERVER, {}, "2026.10.11549", id="llama.cpp-as-a-wheel"),
        pytest.param("llama_cpp", SERVER, {"build": "native"}, "0.3.36", id="llama.cpp-compiled"),
        pytest.param("mlx", CARD, {}, "0.32.2", id="mlx-on-cuda"),
        pytest.param("mlx", AMD, {}, None, id="mlx-is-not-packaged-for-rocm"),
    ],
)
def test_what_the_five_pin(engine: str, machine: Hardware, settings: dict[str, Any], version: str | None) -> None:
    """Each of xinfer's own plugins says which version it would install."""
    assert engines.pinned(engines.get(engine), machine, settings) == version

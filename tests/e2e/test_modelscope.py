"""ModelScope's own client fetches a folder and a file as a plan says, from a hub on loopback."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import pytest
from modelscope_hub import Hub

from xinfer import flow
from xinfer.catalog import Spec
from xinfer.environments.environment import MARKER, provision
from xinfer.errors import ProvisionError
from xinfer.plan import LaunchPlan
from xinfer.planning import artefacts
from xinfer.testing.model_files import CONFIG, gguf, safetensors

if TYPE_CHECKING:
    from xinfer.planning.artefacts import Weights

pytestmark = pytest.mark.e2e

SPEC = Spec(
    family="tiny", size="7", format="pytorch", quantization="none", hub="modelscope", id="org/Tiny", revision="v1.0"
)
WANTED = {
    "config.json": json.dumps(CONFIG).encode(), "tokenizer.json": b"{}", "merges.txt": b"a b",
    "model-00001-of-00002.safetensors": safetensors({"a": ("BF16", (3, 64))}, {"format": "pt"}),
    "model-00002-of-00002.safetensors": safetensors({"b": ("BF16", (64,))}, {"format": "pt"}),
    "model.safetensors.index.json": json.dumps(
        {"weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}}
    ).encode(),
}  # fmt: skip
UNWANTED = {
    "pytorch_model.bin": b"pickle", "modeling_tiny.py": b"raise SystemExit", "onnx/config.json": b"{}",
    "consolidated.safetensors": b"again", "README.md": b"# Tiny", "tiny.Q8_0.gguf": gguf(),
}  # fmt: skip


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Hub:
    """Return the hub, and let the client keep its own notes away from the user's."""
    monkeypatch.setenv("MODELSCOPE_HOME", str(tmp_path / "notes"))
    monkeypatch.setenv("MODELSCOPE_CACHE", str(tmp_path / "cache"))
    return Hub({**WANTED, **UNWANTED})


def make(weights: Weights, hub: Hub, monkeypatch: pytest.MonkeyPatch, log: Path) -> Path:
    """Fetch as a run does, and return the place that the engine would be started with."""
    plan = LaunchPlan(engine="e", version=None, variant="v", weights=weights.needs, argv=("serve", weights.place))
    with hub.served() as address:
        monkeypatch.setenv("MODELSCOPE_ENDPOINT", address)
        provision(plan, progress=lambda _: None, log=log)
    return Path(weights.place)


def whole(home: Path, spec: Spec = SPEC) -> Weights:
    return artefacts.folder(spec, home=str(home), python=flow.interpreter(), dtype="bfloat16")


def test_a_folder(home: Path, hub: Hub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What an engine needs comes at the revision that was asked for, and nothing else."""
    place = make(whole(home), hub, monkeypatch, tmp_path / "log")
    assert {path.name: path.read_bytes() for path in place.iterdir() if path.name != MARKER} == WANTED
    assert {revision for revision, _ in hub.sent} == {"v1.0"}
    sent = len(hub.sent)
    make(whole(home), hub, monkeypatch, tmp_path / "log")
    assert len(hub.sent) == sent, "what is complete is not fetched again"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        pytest.param({"config.json": json.dumps({"auto_map": {"AutoModel": "modeling_tiny.T"}}).encode()},
                     "the Python that it names, modeling_tiny.T", id="its-own-python"),
        pytest.param({name: None for name in WANTED if name.startswith("model")}, "has no weights", id="pickles-alone"),
    ],
)  # fmt: skip
def test_what_would_be_executed(
    home: Path, hub: Hub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, changes: dict[str, bytes | None], said: str
) -> None:
    """It is refused, and nothing of it stays."""
    files = {**hub.files, **changes}
    hub.files = {name: data for name, data in files.items() if data is not None}
    weights = whole(home, msgspec.structs.replace(SPEC, revision=None))
    with pytest.raises(ProvisionError, match=said):
        make(weights, hub, monkeypatch, tmp_path / "log")
    assert not Path(weights.place).exists()
    assert not [name for _, name in hub.sent if name.endswith((".bin", ".py", ".safetensors"))]


def test_a_file(home: Path, hub: Hub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """One file of a repository comes alone."""
    spec = msgspec.structs.replace(SPEC, format="ggufv2", quantization="Q8_0", file="tiny.{quantization}.gguf")
    weights = artefacts.single_file(spec, home=str(home), python=flow.interpreter())
    place = make(weights, hub, monkeypatch, tmp_path / "log")
    assert place.read_bytes() == UNWANTED["tiny.Q8_0.gguf"]
    assert hub.sent == [("v1.0", "tiny.Q8_0.gguf")]

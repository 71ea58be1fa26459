"""The default model in every format: made here from the one published file, whole or not at all."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import pytest

from xinfer import catalog, flow
from xinfer.config.compose import conf_dir, read
from xinfer.environments.environment import marker, provision
from xinfer.errors import ProvisionError
from xinfer.plan import Artefact, LaunchPlan
from xinfer.planning import artefacts

if TYPE_CHECKING:
    from xinfer.catalog import Spec
    from xinfer.planning.artefacts import Weights

pytestmark = pytest.mark.e2e

CHECK = """
import json, sys
from gguf import GGUFReader
from gguf.quants import dequantize
import numpy as np

def tensors(path):
    return {t.name: dequantize(t.data, t.tensor_type).reshape(t.shape[::-1]) for t in GGUFReader(path).tensors}

published, made = tensors(sys.argv[1]), tensors(sys.argv[2])
assert list(published) == list(made)
errors = [float(np.abs(published[n] - made[n]).max() / np.abs(published[n]).max()) for n in published]
types = sorted({t.tensor_type.name for t in GGUFReader(sys.argv[2]).tensors})
print(json.dumps({"worst": max(errors), "types": types}))
"""
"""How far apart the weights of two GGUF files are, relative to the largest of each tensor."""
FOLDER = {"config.json", "generation_config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"}


def spec(format: str, quantization: str) -> Spec:  # noqa: A002 -- the word of the command line
    family = catalog.parse(read(conf_dir() / "model" / "smollm2-135m-instruct.yaml"), "the default model")
    (found,) = catalog.select(family, day=None, format=format, quantization=quantization)
    return found


def make(weights: Weights, home: Path) -> str:
    """Make the weights as a run does, without an engine, and return where they lie."""
    plan = LaunchPlan(engine="none", version=None, variant="none", weights=weights.needs)
    provision(plan, progress=lambda _: None, log=home / "log")
    return weights.place


def single(quantization: str, home: Path) -> Weights:
    return artefacts.single_file(spec("ggufv2", quantization), home=str(home), python=flow.interpreter())


def tool(weights: Weights) -> str:
    return artefacts.interpreter(weights.needs[-2].path)


@pytest.mark.parametrize(
    ("quantization", "types", "least", "most"),
    [
        pytest.param("F32", ["F32"], 0.0, 0.0, id="F32-is-exact"),
        pytest.param("BF16", ["BF16", "F32"], 1e-5, 2**-8, id="BF16-keeps-8-bits"),
        pytest.param("Q8_0", ["F32", "Q8_0"], 1e-5, 2**-7, id="Q8_0-keeps-a-127th-of-each-block"),
        pytest.param("Q4_0", ["F32", "Q4_0", "Q8_0"], 1e-3, 2**-2.5, id="Q4_0-and-an-embedding-of-8-bits"),
    ],
)
def test_another_quantization_holds_the_same_weights(
    quantization: str, types: list[str], least: float, most: float, home: Path
) -> None:
    """As near to the published file as its type of numbers allows, tensor by tensor."""
    weights = single(quantization, home)
    made = make(weights, home)
    published = make(single("Q4_1", home), home)
    done = subprocess.run(
        [tool(weights), "-I", "-c", CHECK, published, made], capture_output=True, text=True, check=True
    )
    found = json.loads(done.stdout)
    assert found["types"] == types
    assert least <= found["worst"] <= most


@pytest.mark.parametrize(("dtype", "stored", "width"), [("float32", "F32", 4), ("bfloat16", "BF16", 2)])
def test_a_folder_is_whole_and_says_what_it_holds(dtype: str, stored: str, width: int, home: Path) -> None:
    """Every parameter once, in the type of numbers that was asked for; the marker tells where it came from."""
    weights = artefacts.folder(spec("pytorch", "none"), home=str(home), python=flow.interpreter(), dtype=dtype)
    folder = Path(make(weights, home))
    assert {path.name for path in folder.iterdir()} >= FOLDER
    with (folder / "model.safetensors").open("rb") as file:
        header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
    header.pop("__metadata__")
    assert {tensor["dtype"] for tensor in header.values()} == {stored}
    counts = [tensor["data_offsets"][1] - tensor["data_offsets"][0] for tensor in header.values()]
    assert sum(counts) == 134_515_008 * width
    assert json.loads((folder / "config.json").read_text(encoding="utf-8"))["dtype"] == dtype
    found = marker(weights.needs[-1])
    assert found is not None
    assert any(word.endswith("SmolLM2-135M-Instruct.Q4_1.gguf") for word in found.steps[0])


@pytest.mark.parametrize("script", ["gguf_to_folder.py", "gguf_to_gguf.py"])
@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"GGUF", id="four-bytes"),
        pytest.param(b"GGUF\x03\0\0\0" + b"\xff" * 64, id="endless-counts"),
        pytest.param(b"\0" * 4096, id="zeros"),
    ],
)
def test_a_file_that_is_no_model_leaves_nothing(script: str, content: bytes, home: Path, tmp_path: Path) -> None:
    """The conversion fails in one line that names the file; its directory is gone."""
    good = single("F32", home)
    make(good, home)
    source, target = tmp_path / "half.gguf", tmp_path / "made"
    source.write_bytes(content)
    kind = "float32" if "folder" in script else "F32"
    place = str(target) if "folder" in script else f"{target}/m.gguf"
    step = (tool(good), "-I", str(artefacts.CONVERT / script), str(source), place, kind)
    broken = msgspec.structs.replace(
        LaunchPlan(engine="none", version=None, variant="none"), weights=(Artefact(path=str(target), steps=(step,)),)
    )
    with pytest.raises(ProvisionError) as caught:
        provision(broken, progress=lambda _: None, log=tmp_path / "log")
    assert "half.gguf is not a whole GGUF file" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert {path.name for path in tmp_path.iterdir()} - {"made.lock"} == {"half.gguf", "log"}

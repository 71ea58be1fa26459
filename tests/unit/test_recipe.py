"""What plugins say of deploying their engines."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from xinfer import engines
from xinfer.deploying.recipe import Image, Recipe, image_of, read
from xinfer.facts import Hardware
from xinfer.plan import LaunchPlan

NAMES = ("vllm", "sglang", "llama_cpp", "mlx", "transformers")


def plan(variant: str, version: str | None = "1.2") -> LaunchPlan:
    return LaunchPlan(engine="e", version=version, variant=variant)


RECIPE = Recipe(
    images={
        "cuda": Image(name="e/e:v{version}", source="s"),
        "cpu": Image(name="e/cpu:v{version}-{arch}", source="s"),
        "native": "no compiler",
    }
)


@pytest.mark.parametrize(
    ("launch", "arch", "image"),
    [
        pytest.param(plan("cuda"), None, "e/e:v1.2", id="of-this-version"),
        pytest.param(plan("cuda", None), None, None, id="no-version-no-tag"),
        pytest.param(plan("cpu"), "x86_64", "e/cpu:v1.2-x86_64", id="of-this-instruction-set"),
        pytest.param(plan("cpu"), "aarch64", "e/cpu:v1.2-arm64", id="by-the-name-that-images-have-for-it"),
        pytest.param(plan("cpu"), None, None, id="an-unknown-instruction-set-is-not-guessed"),
        pytest.param(plan("cpu"), "riscv64", None, id="one-that-has-no-image"),
        pytest.param(plan("rocm"), None, None, id="no-image-for-this-build"),
    ],
)
def test_the_image(launch: LaunchPlan, arch: str | None, image: str | None) -> None:
    """An image is named only if its tag is that of the plan's version."""
    found = image_of(RECIPE, launch, Hardware(profile="h", arch=arch))
    assert (found.name if isinstance(found, Image) else found) == image


def test_a_build_that_no_container_can_have() -> None:
    """The plugin says why."""
    assert image_of(RECIPE, plan("native"), Hardware(profile="h")) == "no compiler"


def test_a_plugin_may_say_nothing(tmp_path: Path) -> None:
    """Somebody else's engine is installed by its own plan, and may use all GPUs."""
    assert read(tmp_path) == Recipe()


@pytest.mark.parametrize("name", NAMES)
def test_every_engine_of_ours_says_how_many_gpus_it_uses(name: str) -> None:
    """llama.cpp uses all that it sees; the others what their flags say, or one."""
    found = read(engines.get(name).conf.parent)
    assert (found.gpu_flags is None) is (name == "llama_cpp")


def images() -> list[Any]:
    found = [(name, variant, image) for name in NAMES for variant, image in _images(name).items()]
    return [pytest.param(image, id=f"{name}-{variant}") for name, variant, image in found if isinstance(image, Image)]


def _images(name: str) -> dict[str, Image | str]:
    return read(engines.get(name).conf.parent).images


@pytest.mark.parametrize("image", images())
def test_every_image_is_of_a_release_and_has_a_source(image: Image) -> None:
    """No tag moves, and where its form is written down can be looked up."""
    assert "{version}" in image.name.rpartition(":")[2]
    assert image.source.startswith("https://")

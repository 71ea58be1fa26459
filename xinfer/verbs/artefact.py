"""A plan in the form that another program takes: made for the place where that runs it, and written out."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xinfer import __version__, apikey, engines, flow
from xinfer.deploying import container, dumping, formats, recipe
from xinfer.deploying.deployment import Deployment
from xinfer.planning import bits
from xinfer.planning.artefacts import CONVERT
from xinfer.verbs import report

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from xinfer.catalog import Spec
    from xinfer.config.compose import Composer
    from xinfer.flow import Planned
    from xinfer.plan import LaunchPlan


def plan(how: str, config: dict[str, Any], composer: Composer, *, python: str | None = None) -> Planned:
    """Plan for this machine's paths, or for a container's: its volume is the home, its Python makes environments."""
    if how not in formats.CONTAINED:
        return flow.plan(flow.ask(config, composer), composer, python=python)
    inside = {**config, "home": container.HOME, "installer": "pip"}
    return flow.plan(flow.ask(inside, composer), composer, python=container.PYTHON)


def text(how: str, planned: Planned, typed: Sequence[str]) -> str:
    """Return the artefact, a comment if there is nothing to start, and nothing if the rules refuse.

    ``typed`` are the words of the command line that asked for it.
    """
    launch = planned.launch
    if how == "yaml":
        command = shlex.join(["xinfer", "plan", *typed])
        return f"# made by: {report.one_line(command)}\n{dumping.dump(planned.document())}"
    if launch is None:
        return ""
    if not launch.argv:
        return f"# {launch.url} runs already\n"
    return formats.text(how, deployment(planned, launch, typed))


def deployment(planned: Planned, launch: LaunchPlan, typed: Sequence[str]) -> Deployment:
    """Gather what an artefact is made from."""
    config, spec = planned.ask.config, planned.decision.spec
    engine = engines.get(launch.engine)
    folder = engine.conf.parent
    return Deployment(
        launch=launch,
        hardware=planned.ask.hardware,
        recipe=recipe.read(folder),
        typed=tuple(typed),
        about={
            "xinfer": __version__,
            "engine": f"{engine.title} {launch.version or 'of a version that is not known'}, {launch.variant}",
            "model": report.artefact(spec),
            "machine": report.machine(planned.ask.hardware),
        },
        family=spec.family,
        local=tuple(_local(spec)),
        hub=spec.hub,
        stored_gib=_stored_gib(spec),
        key=apikey.variable(config) if launch.key_variables else None,
        start_timeout_s=config["start_timeout_s"],
        programs=dict(_programs(launch, folder)),
    )


def _stored_gib(spec: Spec) -> float | None:
    """Return what the files of a model take; what is made here lies beside what it is made from."""
    if spec.format == "pytorch" and spec.quantization not in {None, "none"}:
        return None  # quantized while it is loaded: the files are larger, by how much is not known
    size = bits.weights(spec, None).bytes
    return None if size is None else size * (2 if spec.derived else 1) / 2**30


def _local(spec: Spec) -> Iterator[str]:
    """Yield the model's file and those that it continues in, or its folder, where no hub has it."""
    if spec.hub == "local" and spec.id:
        yield spec.id
        yield from (str(Path(spec.id).with_name(Path(part).name)) for part in spec.parts)


def _programs(launch: LaunchPlan, folder: Path) -> Iterator[tuple[str, str]]:
    """Yield each program of xinfer's or of the plugin's that a plan runs, and its text."""
    words = {word: None for command in (*launch.install, launch.argv) for word in command if word.endswith(".py")}
    for word in words:
        path = Path(word)
        if path.is_file() and {CONVERT, folder}.intersection(path.parents):
            yield word, path.read_text(encoding="utf-8")

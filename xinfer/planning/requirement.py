"""What an engine needs installed on each kind of machine: a plugin's ``requirements.yaml``, read and filled in."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

import msgspec
import yaml

from xinfer import versions
from xinfer.errors import ConfigError
from xinfer.plan import Artefact
from xinfer.planning import artefacts

if TYPE_CHECKING:
    from pathlib import Path

    from xinfer.engines import Job, Settings
    from xinfer.facts import Hardware
    from xinfer.plan import Argv

_VARIANTS = {"nvidia": "cuda", "amd": "rocm", "apple": "apple", "intel": "xpu"}


class Requirement(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One variant of an engine: a version, and the arguments of each ``pip install``.

    Installs that say ``{version}`` hold for every version; those that pin each package hold for theirs alone.
    """

    version: str
    installs: tuple[tuple[str, ...], ...]
    others: dict[str, tuple[tuple[str, ...], ...]] = {}
    """Other versions whose pins are known."""

    @property
    def versions(self) -> tuple[str, ...] | None:
        """The versions that can be had; null where any can."""
        is_open = any("{version}" in part for install in self.installs for part in install)
        return None if is_open else (self.version, *self.others)

    def filled(self, version: str) -> tuple[Argv, ...]:
        """Return the arguments of each ``pip install`` for one version."""
        installs = self.others.get(version, self.installs)
        return tuple(tuple(part.replace("{version}", version) for part in install) for install in installs)


def variant_of(hardware: Hardware) -> str:
    """Name the kind of build a machine needs: cuda, rocm, xpu, apple or cpu."""
    return _VARIANTS.get(hardware.gpu.vendor or "", "cpu") if hardware.gpus != 0 else "cpu"


def read(path: Path, engine: str, variant: str) -> Requirement:
    """Return what an engine needs for one variant; ConfigError lists the variants that its plugin knows.

    Where no package can be had, the file says what there is instead, and so does the error.
    """
    found = _file(path)
    known = {name: needs for name, needs in found.items() if isinstance(needs, Requirement)}
    if variant in known:
        return known[variant]
    instead = f": {found[variant]}; or engine.python=" if variant in found else " is known to its plugin"
    raise ConfigError(f"{engine}: no {variant} build{instead}; known: {', '.join(known)}")


def pinned(path: Path, variant: str) -> str | None:
    """Return the version that would be installed for one variant; null where there is no package of it."""
    needs = _file(path).get(variant)
    return needs.version if isinstance(needs, Requirement) else None


@cache
def _file(path: Path) -> dict[str, Requirement | str]:
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    return msgspec.convert(yaml.load(path.read_bytes(), loader), dict[str, Requirement | str])  # noqa: S506 -- both are SafeLoaders


class Provided(msgspec.Struct, frozen=True, kw_only=True):
    """An engine as it will be there: which version, which build, and the interpreter that runs it."""

    version: str | None
    variant: str
    environment: Artefact | None
    """Null where the user's own interpreter has the engine."""
    python: str


def provide(
    path: Path, asked: Settings, job: Job, variant: str, also: tuple[Argv, ...] = (), built_for: str | None = None
) -> Provided:
    """Return the environment for one variant of an engine, or the interpreter that the user named.

    ``also`` are further installs that this plan needs; ``built_for`` is as in :func:`artefacts.environment`.
    """
    if asked.python is not None:
        return Provided(version=asked.version, variant=variant, environment=None, python=asked.python)
    needs = read(path, asked.name, variant)
    version = needs.version if asked.version is None else asked.version
    if needs.versions is not None and version not in needs.versions:
        known = f"{', '.join(needs.versions)}, or bring your own with engine.python="
        raise ConfigError(f"engine.version={version}: {asked.name} is known for {variant} in {known}")
    if versions.read(version) is None:
        example = f"say one in full, as in engine.version={needs.version}"
        raise ConfigError(f"engine.version={version} is no version that can be installed; {example}")
    made = artefacts.environment(
        f"{asked.name}-{variant}-{version}", (*needs.filled(version), *also),
        home=job.home, python=job.python, built_for=built_for, installer=job.installer,
    )  # fmt: skip
    return Provided(
        version=version, variant=variant, environment=made, python=artefacts.interpreter(made.path)
    )  # fmt: skip

"""Who carries a sweep: ``hydra/launcher=NAME`` and ``hydra.launcher.KEY=VALUE``, read as Hydra would read them.

They are taken out of the command line before its cells are composed: how a cell is measured elsewhere is no part of it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from xinfer.config.document import read
from xinfer.config.overrides import LAUNCHER, Override, is_of_launcher
from xinfer.config.overrides import read as read_override
from xinfer.errors import ConfigError, nearest

if TYPE_CHECKING:
    from collections.abc import Sequence

    from xinfer.config.compose import Composer


class Chosen(NamedTuple):
    """A preset, with what was typed laid over it."""

    name: str
    """Of one that ships with xinfer: what carries the jobs."""
    node: dict[str, Any]


def chosen(overrides: Sequence[str], composer: Composer) -> tuple[Chosen | None, list[str]]:
    """Return what launcher was asked for, null if none, and the overrides of the cells."""
    typed = [read_override(text) for text in overrides]
    others = [each.text for each in typed if not is_of_launcher(each.key)]
    ours = [each for each in typed if is_of_launcher(each.key)]
    if not ours:
        return None, others
    names = [each for each in ours if each.key == LAUNCHER]
    if not names:
        known = "|".join(composer.options(LAUNCHER))
        raise ConfigError(f"{ours[0].text!r} sets nothing without {LAUNCHER}={known}")
    if "," in str(names[-1].value):
        raise ConfigError(f"{names[-1].text!r}: a sweep has one launcher")
    return _laid_over(str(names[-1].value), [each for each in ours if each.key != LAUNCHER], composer), others


def _preset(name: str, composer: Composer) -> dict[str, Any]:
    known = composer.options(LAUNCHER)
    if name not in known:
        hint = nearest(name, known) or f"; there are {', '.join(known)}"
        raise ConfigError(f"there is no launcher {name!r}{hint}")
    return read(composer.file(LAUNCHER, name))


def _laid_over(name: str, settings: Sequence[Override], composer: Composer) -> Chosen:
    """Lay what was typed over the preset; one that ``uses`` another is laid over that."""
    own = _preset(name, composer)
    base = str(own.pop("uses", name))
    try:
        node = OmegaConf.merge(_preset(base, composer), own)
        for each in settings:
            OmegaConf.update(node, each.key.removeprefix("hydra.launcher."), _value(each), force_add=True)
        plain: Any = OmegaConf.to_container(node, resolve=True)
    except OmegaConfBaseException as error:
        raise ConfigError(f"hydra.launcher: {str(error).splitlines()[0]}") from error
    return Chosen(base, dict(plain))


def _value(override: Override) -> Any:
    try:
        parsed = OverridesParser.create().parse_override(override.text)
    except (HydraException, ValueError) as error:
        raise ConfigError(f"{override.text!r} cannot be read as key=value; quote its value") from error
    if parsed.is_sweep_override() or parsed.is_delete():
        raise ConfigError(f"{override.text!r}: a sweep has one launcher, with one value for each of its settings")
    return parsed.value()

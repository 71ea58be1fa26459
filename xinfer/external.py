"""The plan for a server that somebody else runs: nothing to install, start or stop."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from xinfer.catalog import Spec
from xinfer.engines import typed
from xinfer.errors import ConfigError
from xinfer.judging.decision import Decision
from xinfer.plan import LaunchPlan

if TYPE_CHECKING:
    from collections.abc import Mapping


class External(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What ``engine=external`` takes."""

    name: str
    url: str | None = None
    model: str | None = None
    api_key_env: str | None = None
    request: dict[str, Any] = {}


def plan(engine: Mapping[str, Any], rules: str) -> tuple[Decision, LaunchPlan]:
    """Return what is measured as it is; ConfigError for an address that is none, or would give a password away."""
    from xinfer.measuring.client import Target  # noqa: PLC0415 -- only this engine's plan needs the client

    given = typed(engine, External, "engine")
    if given.url is None:
        raise ConfigError("engine=external needs the server's address, as in engine.url=http://127.0.0.1:8000")
    try:
        Target(url=given.url).check()
    except ConfigError as error:
        raise ConfigError(f"engine.url: {error}") from error
    url = given.url.rstrip("/").removesuffix("/v1").rstrip("/")
    target = Target(url=url)
    if target.place != url:
        raise ConfigError(f"engine.url: the password of {target.place} would be recorded; see engine.api_key_env")
    served = Spec(
        family="external", size=None, format=None, quantization=None, hub=None, id=None,
        note=f"{given.model or 'whatever is served'} at {url}",
    )  # fmt: skip
    made = Decision(
        engine="external", spec=served, rules=rules, verdicts=(),
        because=(f"a running server was named: {url}; the rules judge only what xinfer starts",),
    )  # fmt: skip
    launch = LaunchPlan(
        engine="external", version=None, variant="external", base_url=url, model=given.model or "",
        request=given.request,
    )  # fmt: skip
    return made, launch

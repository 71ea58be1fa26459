"""The verbs of the command line: each composes what was typed and prints one answer."""

from __future__ import annotations

import gc
import os
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from xinfer.errors import ConfigError, nearest

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from xinfer.config.compose import Composer
    from xinfer.environments.storage import Stored
    from xinfer.errors import XinferError


class Line(NamedTuple):
    """A parsed command line."""

    verb: str
    overrides: list[str]
    directories: list[Path]
    multirun: bool
    only_config: bool
    api_key: str | None = None
    """The key that was typed; ``overrides`` only says that there is one."""
    paths: Sequence[Path] = ()
    """Of a verb that takes some."""


def _configured(line: Line, composer: Composer) -> dict[str, Any]:
    from xinfer import keys

    config = composer.compose(line.overrides)
    keys.check(config)
    return config


def _run(line: Line, composer: Composer) -> int:
    from xinfer.verbs import sweep

    gc.enable()
    if any(word.lstrip("+").startswith(("tune", "experiment=")) for word in line.overrides):
        from xinfer.verbs import tuning

        if tuning.is_asked(line.overrides, composer):
            return tuning.run(line.overrides, composer, line.directories, multirun=line.multirun, api_key=line.api_key)
    if not line.multirun:
        return sweep.run([line.overrides], composer, multirun=False, api_key=line.api_key)
    from xinfer.config import launcher

    chosen, overrides = launcher.chosen(line.overrides, composer)
    cells = composer.expand(overrides)
    if chosen is None:
        return sweep.run(cells, composer, multirun=True, api_key=line.api_key)
    if line.api_key is not None:
        raise ConfigError("api_key= would be sent along; say api_key_env=, and set that variable where the cells run")
    from xinfer.verbs import dispatch

    with dispatch.opened(chosen, line.directories) as carrier:
        return sweep.run(cells, composer, multirun=True, carrier=carrier)


def _serve(line: Line, composer: Composer) -> int:
    from xinfer.verbs import serve

    gc.enable()
    return serve.run(line.overrides, composer, api_key=line.api_key)


def _parity(line: Line, composer: Composer) -> int:
    from xinfer.verbs import comparison

    how = _format(_configured(line, composer)["format"], ("text", "json"))
    gc.enable()
    made, found = comparison.run(line.overrides, composer, lambda said: print(said, file=sys.stderr, flush=True))
    print(f"{_json(found)}\n" if how == "json" else comparison.text(found), end="")
    print(f"record: {made.path}", file=sys.stderr)
    error = comparison.fault(found)
    if error is not None:
        raise error
    return 0


def _compare(line: Line, _composer: Composer) -> int:
    from xinfer.verbs import compare

    asked = compare.asked(line.overrides)
    found = compare.run(line.paths, asked)
    is_terminal = sys.stdout.isatty() and "NO_COLOR" not in os.environ
    shown = compare.markdown(found) if asked.format == "markdown" else compare.text(found, is_terminal=is_terminal)
    print(f"{_json(found)}\n" if asked.format == "json" else shown, end="")
    error = compare.worse(found)
    if error is not None:
        raise error
    return 0


def _export(line: Line, _composer: Composer) -> int:
    from xinfer.verbs import export

    made = export.run(line.paths, export.asked(line.overrides))
    print(made.text, end="")
    for each in made.left_out:
        print(f"left out: {each}", file=sys.stderr)
    return 0


def _matrix(line: Line, composer: Composer) -> int:
    from xinfer.verbs import matrix

    asked = matrix.asked(line.overrides)
    found, checked = matrix.load(line.paths, asked, composer)
    if asked.measure:
        gc.enable()
        checked = matrix.measured(
            found, checked, composer, lambda said: print(said, file=sys.stderr, flush=True), api_key=line.api_key
        )
    directories = [word for path in line.directories for word in ("--config-dir", str(path))]
    print(matrix.text(asked, checked, directories), end="")
    error = matrix.unexpected(checked)
    if error is not None:
        raise error
    print(f"all {len(checked)} rows are as expected", file=sys.stderr)
    return 0


def _provision(line: Line, composer: Composer) -> int:
    from xinfer.verbs import provisioning

    config = _configured(line, composer)
    how = _format(config["format"], ("text", "json"))
    gc.enable()
    made = provisioning.run(config, composer, lambda said: print(said, file=sys.stderr, flush=True))
    print(f"{_json(made)}\n" if how == "json" else provisioning.text(made), end="")
    return 0


def _environments(line: Line, composer: Composer) -> int:
    from xinfer import flow
    from xinfer.environments import removal, storage
    from xinfer.verbs import provisioning

    overrides, names, days = removal.asked(line.overrides)
    config = _configured(line._replace(overrides=overrides), composer)
    how = _format(config["format"], ("text", "json"))
    rows: Sequence[Stored] = storage.stored(flow.home(config))
    rows = rows if names is None else removal.named(rows, names)
    rows = rows if days is None else removal.idle(rows, days, datetime.now(UTC))
    errors: list[XinferError] = []
    if names is not None:
        rows, errors = removal.remove_all(rows)
    closing = f"below {flow.home(config)}" if names is None else "removed"
    print(f"{_json(rows)}\n" if how == "json" else provisioning.table(rows, closing), end="")
    for error in errors:
        print(f"xinfer: {error}", file=sys.stderr)
    return max((error.exit_code for error in errors), default=0)


def _plan(line: Line, composer: Composer) -> int:
    from xinfer import flow, forecast
    from xinfer.deploying import formats
    from xinfer.verbs import report

    config = _configured(line, composer)
    how = _format(config["format"], formats.NAMES)
    if how in ("text", "json"):
        planned = forecast.foreseen(flow.plan(flow.ask(config, composer), composer))
        print(report.plan_text(planned) if how == "text" else f"{_json(planned.document())}\n", end="")
    else:
        from xinfer.verbs import artefact

        directories = [word for path in line.directories for word in ("--config-dir", str(path))]
        planned = artefact.plan(how, config, composer)
        if how in formats.DOCUMENTS:  # what another program runs says nothing of speed
            planned = forecast.foreseen(planned)
        print(artefact.text(how, planned, [*directories, *line.overrides]), end="")
    if planned.launch is None:
        print(f"xinfer: {planned.decision.because[0]}", file=sys.stderr)
        return 3
    return 0


def _why(line: Line, composer: Composer) -> int:
    from xinfer.verbs import why

    config = _configured(line, composer)
    how = _format(config["format"], ("text", "json"))
    asked, reasons = why.run(line.overrides, config, composer)
    print(f"{_json(reasons)}\n" if how == "json" else why.text(asked, reasons), end="")
    if any(why.is_answered(reason) for reason in reasons):
        return 0
    print(f"xinfer: {why.unanswered(reasons)}", file=sys.stderr)
    return 3


def _choose(line: Line, composer: Composer) -> int:
    from xinfer.verbs import choose

    config = _configured(line, composer)
    how = _format(config["format"], ("text", "json"))
    choice = choose.run(config, composer)
    print(f"{_json(choice)}\n" if how == "json" else choose.text(choice), end="")
    if choice.rows:
        return 0
    print(f"xinfer: nothing in the catalogue of {choice.catalog} runs on {choice.machine}", file=sys.stderr)
    return 3


def _grid(line: Line, composer: Composer) -> int:
    from xinfer.verbs import grid

    config = _configured(line, composer)
    how = _format(config["format"], ("csv", "json"))
    rows = grid.rows(config, composer, line.overrides)
    if how == "json":
        print(_json(rows))
    else:
        grid.write_csv(rows, sys.stdout)
    return 0


def _diff(line: Line, composer: Composer) -> int:
    from xinfer.verbs import diff

    packs, others = diff.words(line.overrides)
    config = _configured(line._replace(overrides=[*others, packs[0]]), composer)
    how = _format(config["format"], ("text", "csv", "json"))
    found = diff.run(line.overrides, composer)
    if how == "csv":
        diff.write_csv(found, sys.stdout)
    else:
        print(f"{_json(found.document())}\n" if how == "json" else diff.text(found), end="")
    return 0


def _hardware(line: Line, composer: Composer) -> int:
    from xinfer.machine import hardware
    from xinfer.verbs import report

    config = _configured(line, composer)
    how = _format(config["format"], ("text", "json"))
    found = hardware.declared(config["hw"])
    print(_json(found) if how == "json" else report.hardware_text(found), end="\n" if how == "json" else "")
    return 0


def _models(line: Line, composer: Composer) -> int:
    from xinfer.verbs import grid, report

    config = _configured(line, composer)
    how = _format(config["format"], ("text", "json"))
    day = config["catalog"] and str(config["catalog"])
    found = sorted(grid.families(composer).values(), key=lambda family: family.family.lower())
    families = [family for family in found if day is None or family.specs(day)]
    print(_json([report.family_row(f) for f in families]) if how == "json" else report.families_text(families))
    return 0


def _engines(line: Line, composer: Composer) -> int:
    from xinfer import engines
    from xinfer.judging import supplement
    from xinfer.verbs import report

    config = _configured(line, composer)
    how = _format(config["format"], ("text", "json"))
    usable, broken = engines.load(supplement.chosen(config["rules"], composer).engines)
    rows = [{"engine": n, "title": e.title, "plugin": "ok", "port": e.port} for n, e in usable.items()]
    rows += [{"engine": n, "title": n, "plugin": error, "port": None} for n, error in broken.items()]
    print(_json(rows) if how == "json" else report.rows_text(rows))
    return 0


def _format(chosen: object, allowed: tuple[str, ...]) -> str:
    """Return the output format; the first allowed one is the verb's own."""
    if chosen is None:
        return allowed[0]
    if chosen not in allowed:
        raise ConfigError(f"format={chosen} is not one of {', '.join(allowed)}{nearest(str(chosen), allowed)}")
    return str(chosen)


def _json(document: object) -> str:
    from xinfer.verbs import report

    return report.json_text(document)


VERBS: dict[str, Callable[[Line, Composer], int]] = {
    "run": _run, "serve": _serve, "plan": _plan, "why": _why, "choose": _choose, "grid": _grid, "diff": _diff,
    "hardware": _hardware, "models": _models, "engines": _engines, "provision": _provision,
    "parity": _parity, "compare": _compare, "export": _export, "matrix": _matrix, "environments": _environments,
}  # fmt: skip
TAKING_PATHS = {"compare", "export", "matrix"}
"""The verbs whose other words are paths."""

"""A matrix as a workflow of GitHub Actions: checked, its canary measured, then every row beside the base commit.

What a row, a file or an event says reaches a script as an environment variable, never as a part of it. The base and the
head are measured in turns in one job, on one machine; of two machines nothing could be compared.
"""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Any

from xinfer import matrix
from xinfer.deploying import dumping

if TYPE_CHECKING:
    from collections.abc import Sequence

    from xinfer.matrix import Row

ACTIONS = {
    "actions/checkout": ("de0fac2e4500dabe0009e67214ff5f5447ce83dd", "v6.0.2"),
    "actions/setup-python": ("a309ff8b426b58ec0e2a45f0f869d46889d02405", "v6.2.0"),
    "actions/cache": ("668228422ae6a00e4ad889ee87cd7109ec5666a7", "v5.0.4"),
    "actions/upload-artifact": ("043fb46d1a93c77aae656e7c1c64a875d1fc6a0a", "v7.0.1"),
    "actions/download-artifact": ("3e5f45b2cfb9172054b4087a40e8e0b5a5461e7c", "v8.0.1"),
}
"""The commit of each action that runs, and the version that it is."""
EVENTS = {"push": {"branches": ["main"]}, "pull_request": {}, "workflow_dispatch": {}}
CONCURRENCY = {"group": "${{ github.workflow }}-${{ github.ref }}", "cancel-in-progress": True}
DEFAULTS = {"run": {"shell": "bash"}}
RUNNER = "${{ vars.XINFER_RUNNER || 'ubuntu-24.04' }}"
PYTHON = "3.12"
MINUTES = 90
"""After which a row is given up."""
CANCELLED = "${{ !cancelled() }}"
HEAD = """\
# {command}
# makes this file; make it again rather than edit it. Variables of the repository: XINFER_INSTALL is what pip installs
# in a checkout ("."), XINFER_RUNNER where it is measured (ubuntu-24.04), XINFER_TURNS how often (5); of the metrics
# XINFER_GATE (output_tps,ttft,tpot) none may be worse than at the base commit.
"""
INSTALL = """\
for side in head base; do
  if [ ! -d "$side" ]; then continue; fi
  python -m venv "venv/$side"
  if ! (cd "$side" && "../venv/$side/bin/python" -m pip install --quiet "$XINFER_INSTALL"); then
    if [ "$side" = head ]; then exit 1; fi
    echo "::warning::the base commit cannot be installed; nothing is compared"
    rm -rf base
  fi
done
"""
INSTALL_ONE = 'python -m pip install --quiet "$XINFER_INSTALL"\n'
CHECK = 'xargs python -m xinfer matrix <<< "$FILES"\n'
KEY = """\
xargs ../venv/head/bin/python -m xinfer plan format=json <<< "$OVERRIDES" |
  python -c 'import json, sys; json.dump(json.load(sys.stdin)["launch"]["install"], open("../install.json", "w"))'
"""
MEASURE = """\
sides=(head)
if [ -d base ]; then sides=(base head); fi
for turn in $(seq "$XINFER_TURNS"); do
  for side in "${sides[@]}"; do
    code=0
    (cd "$side" && xargs "../venv/$side/bin/python" -m xinfer "runs=../turns/$side/$turn" <<< "$OVERRIDES") || code=$?
    mkdir -p "runs/$side" "turns/$side/$turn"
    cp -R "turns/$side/$turn/." "runs/$side"
    if [ "$code" -ne 0 ] && [ "$side" = head ]; then exit "$code"; fi
    if [ "$code" -ne 0 ]; then
      echo "::warning::the base commit cannot run this row; nothing is compared"
      rm -rf base runs/base
    fi
  done
  if [ -d base ]; then sides=("${sides[1]}" "${sides[0]}"); else sides=(head); fi
done
"""
DECIDE = """\
if [ ! -d runs/base ]; then exit 0; fi
code=0
venv/head/bin/python -m xinfer compare runs/base runs/head "metric=$XINFER_GATE" format=markdown \\
  >> "$GITHUB_STEP_SUMMARY" || code=$?
if [ "$code" -eq 2 ]; then echo "::warning::the base and the head may not be compared; the log says why"; exit 0; fi
exit "$code"
"""
EXPORT = """\
mkdir results
exported() { python -m xinfer export runs/head "$@"; }
exported format=markdown | tee results/table.md >> "$GITHUB_STEP_SUMMARY"
exported format=csv metric=all flagged=true > results/all.csv
exported format=github-action-benchmark direction=bigger > results/customBiggerIsBetter.json
exported format=github-action-benchmark direction=smaller > results/customSmallerIsBetter.json
exported format=bencher > results/bencher.json
exported format=pytest-benchmark > results/pytest-benchmark.json
exported format=openmetrics > results/openmetrics.txt
if [ -d runs/base ]; then
  python -m xinfer compare runs/base runs/head format=markdown > results/comparison.md ||
    echo "::notice::the comparison of all rows ended with exit code $?"
  { echo; cat results/comparison.md; } >> "$GITHUB_STEP_SUMMARY"
fi
"""


def text(rows: Sequence[Row], command: Sequence[str], *, directories: Sequence[str] = ()) -> str:
    """Return the file; ``command`` is what makes it again, ``directories`` the flags that every row needs."""
    files = shlex.join([*directories, *dict.fromkeys(row.file for row in rows)])
    running = [row for row in rows if row.expect.runs]
    jobs: dict[str, Any] = {"check": _check(files)}
    for part in matrix.jobs([row for row in running if row.is_canary]):
        jobs["canary"] = _measure(part, "canary", ["check"], directories)
    before = list(jobs)[-1:]
    for number, part in enumerate(matrix.jobs([row for row in running if not row.is_canary]), 1):
        jobs[f"measure-{number}"] = _measure(part, str(number), before, directories)
    jobs["results"] = _results([name for name in jobs if name != "check"])
    document = {
        "name": "benchmark",
        "on": EVENTS,
        "permissions": {"contents": "read"},
        "concurrency": CONCURRENCY,
        "defaults": DEFAULTS,
        "env": {"PIP_DISABLE_PIP_VERSION_CHECK": "1", "XINFER_INSTALL": "${{ vars.XINFER_INSTALL || '.' }}"},
        "jobs": jobs,
    }
    return HEAD.format(command=shlex.join(["python", "-m", "xinfer", *command])) + commented(dumping.dump(document))


def uses(action: str, **options: Any) -> dict[str, Any]:
    """Return what a step uses, at the commit that is known here."""
    return {"uses": f"{action}@{ACTIONS[action][0]}", **({"with": options} if options else {})}


def commented(document: str) -> str:
    """Say of each commit which version it is, as those look for who keep it up to date."""
    for commit, version in ACTIONS.values():
        document = document.replace(f'{commit}"', f'{commit}" # {version}')
    return document


def checkout(**options: Any) -> dict[str, Any]:
    """Return the step that gets the files, and leaves no token behind."""
    return uses("actions/checkout", **options, **{"persist-credentials": False})


def python(version: str = PYTHON) -> dict[str, Any]:
    """Return the step that gets a Python."""
    return uses("actions/setup-python", **{"python-version": version})


def _installed() -> list[dict[str, Any]]:
    return [checkout(), python(), {"name": "install xinfer", "run": INSTALL_ONE}]


def _check(files: str) -> dict[str, Any]:
    """Return the job that judges every row before any is measured, the refused ones too."""
    steps = [*_installed(), {"name": "check every row", "env": {"FILES": files}, "run": CHECK}]
    return {"name": "every row as expected", "runs-on": "ubuntu-24.04", "timeout-minutes": 15, "steps": steps}


def _measure(part: dict[str, Any], label: str, needs: Sequence[str], directories: Sequence[str]) -> dict[str, Any]:
    """Return a job for each row of a part."""
    flags = f"{shlex.join(directories)} " if directories else ""
    include = [{"name": row["name"], "overrides": f"{flags}{row['overrides']}"} for row in part["include"]]
    return {
        "name": f"{'canary: ' if label == 'canary' else ''}${{{{ matrix.name }}}}",
        "needs": list(needs),
        "runs-on": RUNNER,
        "timeout-minutes": MINUTES,
        "strategy": {"fail-fast": False, "matrix": {"include": include}},
        "env": {
            "OVERRIDES": "${{ matrix.overrides }}",
            "BASE": "${{ github.event.pull_request.base.sha || github.event.before || '' }}",
            "XINFER_TURNS": "${{ vars.XINFER_TURNS || '5' }}",
            "XINFER_GATE": "${{ vars.XINFER_GATE || 'output_tps,ttft,tpot' }}",
        },
        "steps": [*_prepared(), *_measured(label)],
    }


def _prepared() -> list[dict[str, Any]]:
    base = checkout(path="base", ref="${{ env.BASE }}")
    cache = uses("actions/cache", path="${{ runner.temp }}/xinfer", key="xinfer-${{ hashFiles('install.json') }}")
    return [
        checkout(path="head"),
        {"name": "get the base commit", "if": "env.BASE && !startsWith(env.BASE, '0000000')", **base},
        python(),
        {"name": "install xinfer of both", "run": INSTALL},
        {"name": "name what the plan installs", "working-directory": "head", "env": _HOME, "run": KEY},
        {"name": "keep it from run to run", **cache},
    ]


def _measured(label: str) -> list[dict[str, Any]]:
    name = "runs-canary" if label == "canary" else f"runs-{label}-${{{{ strategy.job-index }}}}"
    kept = uses("actions/upload-artifact", name=name, path="runs", **{"if-no-files-found": "ignore"})
    return [
        {"name": "measure in turns", "env": _HOME, "run": MEASURE},
        {"name": "compare with the base commit", "run": DECIDE},
        {"name": "keep the records", "if": CANCELLED, **kept},
    ]


def _results(needs: Sequence[str]) -> dict[str, Any]:
    """Return the job that brings the records of all rows together."""
    got = uses("actions/download-artifact", pattern="runs-*", path="runs", **{"merge-multiple": True})
    kept = uses("actions/upload-artifact", name="results", path="results")
    steps = [
        *_installed(), {"name": "get the records of all rows", **got},
        {"name": "export and compare", "run": EXPORT}, {"name": "keep the results", **kept},
    ]  # fmt: skip
    about = {"name": "results", "needs": list(needs), "if": CANCELLED}
    return {**about, "runs-on": "ubuntu-24.04", "timeout-minutes": 15, "steps": steps}


_HOME = {"XINFER_HOME": "${{ runner.temp }}/xinfer"}

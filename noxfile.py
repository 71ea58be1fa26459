"""One session per question; ``nox -l`` lists them, ``nox`` asks all that must be answered with yes."""

from __future__ import annotations

from pathlib import Path

import nox

nox.needs_version = ">=2025.2.9"
nox.options.sessions = ["lint", "types", "tests", "wheel", "e2e"]
nox.options.error_on_missing_interpreters = True

PYPROJECT = nox.project.load_toml()
PYTHONS = nox.project.python_versions(PYPROJECT)
PURE = (
    *("apikey", "bounds", "catalog", "comparability", "evidence", "expectation", "external", "facts", "flow"),
    *("matrix", "plan", "shape", "versions"),
    *("config/parts", "config/spelling"),
    *("deploying/compose", "deploying/container", "deploying/deployment", "deploying/dumping", "deploying/formats"),
    *("deploying/kubernetes", "deploying/once", "deploying/recipe", "deploying/shell", "deploying/slurm"),
    *("deploying/systemd", "deploying/workflow"),
    *("environments/news", "environments/remedies"),
    *("exporting/bencher", "exporting/formats", "exporting/github_action_benchmark", "exporting/openmetrics"),
    *("exporting/pytest_benchmark", "exporting/subject", "exporting/tables"),
    *("judging/alternatives", "judging/changes"),
    *("judging/decision", "judging/differences", "judging/disagreement", "judging/packs", "judging/predicates"),
    *("judging/recall", "judging/rules"),
    "machine/contradictions",
    *("loadgens/aiperf", "loadgens/foreign", "loadgens/guidellm", "loadgens/llama_bench", "loadgens/peers"),
    *("loadgens/sglang_bench", "loadgens/vllm_bench"),
    *(
        "measuring/cuts",
        "measuring/distribution",
        "measuring/metrics",
        "measuring/quantity",
        "measuring/framing",
        "measuring/schedule",
        "measuring/statistics",
    ),
    *("measuring/roofline", "measuring/usage", "measuring/validity", "measuring/work"),
    *("parity/agreement", "parity/answers", "parity/dialects"),
    *(
        "planning/advice",
        "planning/artefacts",
        "planning/bound",
        "planning/installers",
        "planning/bits",
        "planning/cache",
        "planning/dimensions",
        "planning/memory",
        "planning/mixture",
        "planning/nodes",
        "planning/parallel",
        "planning/room",
        "planning/spread",
        "planning/precision",
        "planning/prediction",
        "planning/requirement",
        "planning/tunables",
    ),
    *(
        "sources/contents",
        "sources/gguf",
        "sources/keeping",
        "sources/limits",
        "sources/naming",
        "sources/network",
        "sources/packing",
        "sources/safetensors",
    ),
    *("verbs/candidates", "verbs/grid", "verbs/outlook", "verbs/ranking"),
)
"""The modules that compute and touch nothing: every branch of them is tested."""
CODE = ("xinfer", "plugins", "tests", "benchmarks", "noxfile.py")


def _install(session: nox.Session, *groups: str, editable: bool = True) -> None:
    session.install(*nox.project.dependency_groups(PYPROJECT, *groups), *(("-e",) if editable else ()), ".")


@nox.session
def lint(session: nox.Session) -> None:
    """Is it well-formed?"""
    session.install(*nox.project.dependency_groups(PYPROJECT, "lint"))
    session.run("ruff", "check", *CODE)
    session.run("ruff", "format", "--check", *CODE)


@nox.session
def types(session: nox.Session) -> None:
    """Do the types hold?"""
    _install(session, "types")
    session.install("nox", *nox.project.dependency_groups(PYPROJECT, "bench"))
    session.run("mypy", *CODE)


def _test(session: nox.Session) -> None:
    _install(session, "bench")
    places = ("tests/unit", "tests/integration", "plugins", "benchmarks")
    args = session.posargs or [*places, "--benchmark-disable"]
    session.run("pytest", "-m", "not e2e", "--numprocesses=2", "--dist=loadfile", "--cov", "--cov-report=", *args)
    if not session.posargs:
        session.run("coverage", "report")
        pure = ",".join(f"*/xinfer/{module}.py" for module in PURE)
        session.run("coverage", "report", f"--include={pure}", "--fail-under=100")


@nox.session
def tests(session: nox.Session) -> None:
    """Does it work, without a real engine?"""
    _test(session)


@nox.session(python=PYTHONS, default=False)
def tests_on(session: nox.Session) -> None:
    """Does it work on every Python it claims?"""
    _test(session)


@nox.session
def wheel(session: nox.Session) -> None:
    """Does the built wheel run, away from the checkout?"""
    session.install("build")
    out = Path(session.create_tmp()).resolve()
    session.run("python", "-m", "build", "--wheel", "--outdir", str(out), ".", silent=True)
    built = max(out.glob("xinfer-*.whl"), key=lambda path: path.stat().st_mtime)
    session.install(str(built))
    with session.chdir(out):
        for command in (("xinfer",), ("python", "-m", "xinfer")):
            session.run(*command, "plan", "model=qwen2-instruct", "hw=cuda", silent=True)
            session.run(*command, "grid", "hw=cuda", "format=json", silent=True)
            session.run(*command, "plan", "hw=cpu", "engine=llama_cpp", "engine.build=native", silent=True)


@nox.session
def e2e(session: nox.Session) -> None:
    """Does the real engine run the real model, and are its numbers true to their raw stamps?"""
    _install(session, "test", editable=False)
    session.install(*PYPROJECT["project"]["optional-dependencies"]["ray"])  # too large for those who test the rest
    session.run("pytest", "-m", "e2e", *(session.posargs or ["tests/e2e", "plugins"]))


@nox.session(default=False)
def matrix(session: nox.Session) -> None:
    """Does every row of a matrix come out as expected? As in nox -s matrix -- matrix/cpu.yaml --filter engine=vllm."""
    _install(session, editable=False)
    words = iter(session.posargs or ["matrix/cpu.yaml"])
    typed = [f"filter={next(words, '')}" if word == "--filter" else word for word in words]
    session.run("python", "-P", "-m", "xinfer", "matrix", *typed, "measure=true")


@nox.session(default=False)
def fidelity(session: nox.Session) -> None:
    """How near to the truth are the load generator and its peers, and what do they cost?"""
    _install(session, editable=False)
    session.run("python", "benchmarks/fidelity.py", *session.posargs)


@nox.session(default=False)
def bench(session: nox.Session) -> None:
    """How fast is xinfer itself?"""
    _install(session, "bench", editable=False)
    session.run("pytest", "benchmarks", "--benchmark-columns=min,median,max,rounds", "-s", *session.posargs)


@nox.session(default=False)
def engines(session: nox.Session) -> None:
    """Is each engine as fast as its best flags by hand make it? Takes an hour for all five; name some to have less."""
    _install(session, editable=False)
    session.run("python", "-P", "benchmarks/engines.py", *session.posargs)


@nox.session(default=False)
def sweep(session: nox.Session) -> None:
    """What does one sweep save, and how much of it is measuring? Takes an hour for all five; name some to have less."""
    _install(session, editable=False)
    session.run("python", "-P", "benchmarks/sweep.py", *session.posargs)


@nox.session(default=False)
def memory(session: nox.Session) -> None:
    """Do the engines hold what their plans say? Starts all five on this machine; name some to have less."""
    _install(session, editable=False)
    session.run("python", "-P", "benchmarks/memory.py", *session.posargs)

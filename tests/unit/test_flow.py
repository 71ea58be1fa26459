"""From a composed configuration to a plan: what is filled in, what is refused, and the document that comes out."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import msgspec
import pytest

from xinfer import engines, flow
from xinfer.config.compose import Composer
from xinfer.errors import ConfigError, EngineError
from xinfer.facts import Hardware

if TYPE_CHECKING:
    from collections.abc import Callable

    Ask = Callable[..., subprocess.CompletedProcess[str]]

HERE = Hardware(profile="auto", os="linux", arch="x86_64", cores=2, memory_gib=16.0, apple_silicon=False, gpus=0)
"""The machine that ``hw=auto`` finds in these tests."""


def asked(*overrides: str, directory: Path | None = None) -> tuple[flow.Ask, Composer]:
    composer = Composer([*([directory] if directory else []), *engines.conf_directories()])
    return flow.ask(composer.compose(overrides), composer, detect=lambda: HERE), composer


def plan(*overrides: str, directory: Path | None = None, port: int | None = None) -> flow.Planned:
    found, composer = asked(*overrides, directory=directory)
    return flow.plan(found, composer, port=port)


def launch(*overrides: str, port: int | None = None) -> Any:
    found = plan(*overrides, port=port).launch
    assert found is not None
    return found


# The document


class Closed(msgspec.Struct, forbid_unknown_fields=True):
    """Every field must be there, and no other."""


class SourceDocument(Closed):
    kind: Literal["page", "code", "xinfer"]
    title: str
    date: str
    where: str
    at: str | None


class FindingDocument(Closed):
    id: str
    result: Literal["met", "failed", "unknown"]
    fact: str
    observed: str | float | bool | list[str] | None
    expected: str
    source: SourceDocument
    fix: str | None
    version: str | None
    outside: str | None


class VerdictDocument(Closed):
    engine: str
    verdict: Literal["yes", "no", "unknown"]
    findings: list[FindingDocument]


class ShapeDocument(Closed):
    architecture: str | None
    layers: int | None
    hidden: int | None
    heads: int | None
    kv_heads: int | None
    head_dim: int | None
    vocab: int | None
    intermediate: int | None
    sliding_window: int | None
    sliding_layers: int | None
    caching_layers: int | None
    kv_lora_rank: int | None
    rope_head_dim: int | None
    experts: int | None
    experts_per_token: int | None
    total_b: float | None
    active_b: float | None
    end_tokens: list[int]
    source: str | None


class SpecDocument(Closed):
    family: str
    size: str | None
    format: str | None
    quantization: str | None
    hub: str | None
    id: str | None
    revision: str | None
    file: str | None
    bytes: int | None
    listed: list[str]
    context_length: int | None
    abilities: list[str]
    shape: ShapeDocument
    note: str | None
    size_counts: str
    derived: bool
    parts: list[str]
    fingerprint: str | None
    remote_code: bool
    pickled: bool


class GpuDocument(Closed):
    vendor: str | None
    name: str | None
    memory_gib: float | None
    compute_capability: str | None
    driver: str | None
    bandwidth_gbs: float | None
    tflops_16bit: float | None


class HardwareDocument(Closed):
    profile: str
    source: str | None
    os: str | None
    os_version: str | None
    arch: str | None
    cpu: str | None
    cores: int | None
    memory_gib: float | None
    bandwidth_gbs: float | None
    isa: list[str] | None
    apple_silicon: bool | None
    gpus: int | None
    nodes: int
    head: str | None
    gpu: GpuDocument


class DecisionDocument(Closed):
    engine: str | None
    spec: SpecDocument
    rules: str
    because: list[str]
    verdicts: list[VerdictDocument]


class MemoryDocument(Closed):
    weights_gib: float | None
    kv_gib: float | None
    overhead_gib: float | None
    least_overhead_gib: float | None
    total_gib: float | None
    available_gib: float | None
    largest_context: int | None
    least_gpus: int | None
    fits: bool | None
    formula: dict[str, str]


class ArtefactDocument(Closed):
    path: str
    steps: list[list[str]]
    is_model: bool


class NodeDocument(Closed):
    rank: int
    commands: list[list[str]]
    env: dict[str, str]


class LaunchDocument(Closed):
    install: list[list[str]]
    argv: list[str]
    env: dict[str, str]
    because: dict[str, str]
    memory: MemoryDocument
    engine: str
    version: str | None
    variant: str
    environment: ArtefactDocument | None
    weights: list[ArtefactDocument]
    host: Literal["127.0.0.1"]
    port: int
    base_url: str | None
    dtype: str | None
    device: Literal["cpu", "gpu"]
    tensor: int
    stages: int
    nodes: list[NodeDocument]
    health: str
    model: str
    key_variables: dict[str, str]
    request: dict[str, Any]
    scorer: list[str]
    tokenizer: list[str]
    unset: list[str]
    notes: list[str]


class DisagreementDocument(Closed):
    engine: str
    verdict: Literal["yes", "no", "unknown"]
    today: Literal["yes", "no", "unknown"]
    findings: list[FindingDocument]


class TodayDocument(Closed):
    rules: Literal["engines-2026-11"]
    disagreements: list[DisagreementDocument]


class AdviceDocument(Closed):
    id: str
    text: str
    override: str
    source: SourceDocument


class EstimateDocument(Closed):
    value: float | None
    is_bound: bool
    efficiency: float | None
    records: int
    alike: list[str]
    error: float | None
    error_records: int
    formula: str
    note: str


class PredictionDocument(Closed):
    batch: int
    decode_tps: EstimateDocument
    total_tps: EstimateDocument
    prefill_tokens: int
    prefill_s: EstimateDocument


class PlanDocument(Closed):
    schema: Literal[1]
    model: SpecDocument
    hardware: HardwareDocument
    decision: DecisionDocument
    today: TodayDocument | None
    launch: LaunchDocument | None
    advice: list[AdviceDocument]
    predicted: PredictionDocument | None


def document(text: str) -> PlanDocument:
    return msgspec.json.decode(text, type=PlanDocument)


@pytest.mark.parametrize(
    ("typed", "code", "engine"),
    [
        pytest.param("model=qwen2-instruct hw=cuda", 0, "vllm", id="vllm"),
        pytest.param("model=qwen2-instruct hw=h100 hw.gpus=4 model.size=72", 0, "vllm", id="many-gpus"),
        pytest.param("hw=cpu", 0, "llama_cpp", id="the-default"),
        pytest.param("model=llama-3-instruct hw=m3-max model.format=mlx", 0, "mlx", id="apple"),
        pytest.param("engine=external engine.url=http://127.0.0.1:1", 0, "external", id="external"),
        pytest.param("model=qwen2-instruct hw=cpu engine=vllm", 3, None, id="a-forced-engine-is-refused"),
        pytest.param("model=Yi-chat model.size=34 model.format=gptq hw=cuda", 3, None, id="every-engine-is-refused"),
        pytest.param("model=internlm-16k hw=cuda", 3, None, id="nothing-is-known-of-the-model"),
    ],
)
def test_the_json_document_is_a_contract(ask: Ask, typed: str, code: int, engine: str | None) -> None:
    """Its keys and types are exactly these, for a plan as for a refusal; a refusal has no launch."""
    done = ask("plan", "format=json", *typed.split())
    found = document(done.stdout)
    assert (done.returncode, found.decision.engine) == (code, engine)
    assert (found.launch is None) is (engine is None)
    assert found.model == found.decision.spec
    verdicts = {verdict.engine for verdict in found.decision.verdicts}
    assert verdicts == (set() if engine == "external" else {"vllm", "sglang", "transformers", "llama_cpp", "mlx"})


def test_the_document_tells_met_from_failed_from_unknown(ask: Ask) -> None:
    """With what was observed, what was expected, where that stands, and what would help."""
    words = ("plan", "format=json", "model=Yi-chat", "model.size=34", "model.format=gptq", "hw=cuda", "hw.os=null")
    vllm = document(ask(*words).stdout).decision.verdicts[0]
    found = {finding.id: finding for finding in vllm.findings}
    assert (vllm.engine, vllm.verdict) == ("vllm", "no")
    assert found["gptq-quantization"].result == "failed"
    assert found["gptq-quantization"].observed == "8bits"
    assert found["gptq-quantization"].expected == "one of Int3, Int4, Int8 when model.format is gptq"
    assert found["gptq-quantization"].source.at == "vLLM, condition 4"
    assert found["linux"].result == "unknown"
    assert found["linux"].fix == "hw.os is not known; say it with hw.os=…"
    assert found["format"].result == "met"
    assert found["format"].fix is None


def test_install_repeats_the_artefacts_in_order(ask: Ask) -> None:
    """The environment first, then the weights: what ``format=shell`` prints."""
    found = document(ask("plan", "format=json", "hw=cpu").stdout).launch
    assert found is not None
    assert found.environment is not None
    assert len(found.weights) == 2
    assert found.install == [step for made in (found.environment, *found.weights) for step in made.steps]
    lines = ask("plan", "format=shell", "hw=cpu").stdout.splitlines()
    assert len(lines) == len(found.install) + 1


# What today's pack says


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        pytest.param("model=qwen2-instruct hw=h100", ["mlx no yes"], id="mlx-runs-on-linux-now"),
        pytest.param(
            "model=qwen-chat hw=h100", ["vllm yes no", "transformers yes unknown", "mlx no yes"],
            id="vllm-has-dropped-a-network",
        ),
        pytest.param(
            "model=llama-2-chat model.format=ggmlv3 hw=cpu", ["llama_cpp yes no"], id="llama.cpp-has-dropped-a-format"
        ),
        pytest.param("model=llama-3-instruct hw=m3-max model.format=mlx", [], id="nothing-has-changed"),
        pytest.param(
            "model=internlm-16k hw=h100 engine=vllm", ["sglang no unknown", "mlx no unknown"],
            id="nothing-is-known-of-the-model",
        ),
        pytest.param(
            "model=qwen2-instruct model.format=gptq hw=cpu engine=vllm",
            ["vllm no unknown", "sglang no unknown"], id="a-refusal",
        ),
        pytest.param(
            "model=qwen2-instruct model.format=gptq hw=cpu engine=transformers engine.python=/usr/bin/python3",
            ["vllm no unknown", "sglang no unknown", "transformers no yes"], id="a-refusal-of-the-users-own",
        ),
    ],
)  # fmt: skip
def test_todays_pack_is_asked_too(typed: str, expected: list[str]) -> None:
    """A plan by another pack says of which engines today's says something else, whether it is refused or not."""
    planned = plan(*typed.split())
    assert planned.today is not None
    found = [f"{each.engine} {each.verdict} {each.today}" for each in planned.today]
    assert found == expected


@pytest.mark.parametrize(
    "typed", ["rules=engines-2026-11", "engine=external engine.url=http://127.0.0.1:1"], ids=["itself", "external"]
)
def test_todays_pack_is_not_asked(typed: str) -> None:
    """It does not disagree with itself, and no pack judges a server that runs already."""
    planned = plan(*typed.split())
    assert planned.today is None
    assert planned.document()["today"] is None


# What is filled in


@pytest.mark.parametrize(
    ("typed", "length"),
    [
        pytest.param("", "4096", id="what-suits-a-conversation"),
        pytest.param("workload=long", "7936", id="what-the-workload-needs"),
        pytest.param("context_length=2048", "2048", id="what-was-asked-for"),
        pytest.param("context_length=8192", "8192", id="all-that-the-model-has"),
        pytest.param("model=mistral-v0.1 model.format=ggufv2", "4096", id="another-model"),
        pytest.param("model=baichuan-chat model.context_length=1000 hw=cuda engine=vllm", "1000", id="a-short-model"),
    ],
)
def test_the_context(typed: str, length: str) -> None:
    """As much as is asked for, and never more than the model was made for."""
    argv = launch(*typed.split()).argv
    flag = "--max-model-len" if "vllm" in typed else "--ctx-size"
    assert argv[argv.index(flag) + 1] == length


@pytest.mark.parametrize(
    ("typed", "given", "port"),
    [
        pytest.param("", None, 8080, id="the-engines-own"),
        pytest.param("port=1234", None, 1234, id="the-users"),
        pytest.param("port=1234", 5678, 5678, id="a-free-one-when-it-runs"),
    ],
)
def test_the_port(typed: str, given: int | None, port: int) -> None:
    """It is in the plan and in the command line alike."""
    found = launch(*typed.split(), port=given)
    assert found.port == port
    assert found.argv[found.argv.index("--port") + 1] == str(port)
    assert found.url == f"http://127.0.0.1:{port}"


def test_a_free_port_is_free() -> None:
    """And another one each time, mostly."""
    ports = {flow.free_port() for _ in range(20)}
    assert len(ports) > 1
    assert all(1024 < port < 2**16 for port in ports)


@pytest.mark.parametrize(
    ("home", "variable", "cache", "expected"),
    [
        pytest.param("/a", "/b", "/c", "/a", id="what-is-typed-comes-first"),
        pytest.param(None, "/b", "/c", "/b", id="then-the-variable"),
        pytest.param(None, None, "/c", "/c/xinfer", id="then-the-systems-cache"),
        pytest.param(None, None, None, "/home/me/.cache/xinfer", id="then-the-users"),
        pytest.param("~/x", None, None, "/home/me/x", id="a-tilde"),
        pytest.param("x", None, None, "/somewhere/x", id="a-relative-path"),
    ],
)
def test_the_cache_directory(
    monkeypatch: pytest.MonkeyPatch, home: str | None, variable: str | None, cache: str | None, expected: str
) -> None:
    """Absolute, whatever it came from."""
    monkeypatch.setenv("HOME", "/home/me")
    monkeypatch.setattr("os.getcwd", lambda: "/somewhere")
    for name, value in (("XINFER_HOME", variable), ("XDG_CACHE_HOME", cache)):
        monkeypatch.delenv(name, raising=False)
        if value:
            monkeypatch.setenv(name, value)
    assert str(flow.home({"home": home})) == expected


def test_settings_of_an_automatic_choice_go_to_the_chosen_engine() -> None:
    """They are laid over the plugin's own file."""
    found = launch("engine.args.seed=3", "engine.env.X=1", "hw=cpu")
    assert found.engine == "llama_cpp"
    assert found.argv[found.argv.index("--seed") + 1] == "3"
    assert found.env["X"] == "1"


def test_a_setting_that_the_chosen_engine_has_not_is_refused() -> None:
    """Rather than dropped."""
    with pytest.raises(ConfigError, match=r"^engine has no key 'qqqq'; its keys are name, version, "):
        launch("model=qwen2-instruct", "hw=cuda", "+engine.qqqq=4")


def test_a_plan_is_a_pure_function() -> None:
    """The same words give the same plan, and nothing is touched."""
    words = ("model=qwen2-instruct", "hw=cuda")
    assert msgspec.json.encode(plan(*words).document()) == msgspec.json.encode(plan(*words).document())


def test_the_machine_is_asked_only_by_auto() -> None:
    """A plan for another machine must not depend on this one."""

    def never() -> Hardware:
        raise AssertionError

    composer = Composer(engines.conf_directories())
    flow.ask(composer.compose(["hw=cuda"]), composer, detect=never)
    with pytest.raises(AssertionError):
        flow.ask(composer.compose(["hw=auto"]), composer, detect=never)


def test_the_interpreter_that_makes_environments_is_this_one() -> None:
    """Or the one it was made with, so that its own environment may be removed."""
    assert Path(launch("hw=cpu").install[0][0]).resolve() == Path(sys.executable).resolve()


# A server that somebody else runs


@pytest.mark.parametrize(
    ("url", "base"),
    [
        pytest.param("http://127.0.0.1:8000", "http://127.0.0.1:8000", id="as-it-should-be"),
        pytest.param("http://127.0.0.1:8000/", "http://127.0.0.1:8000", id="a-slash"),
        pytest.param("http://127.0.0.1:8000/v1", "http://127.0.0.1:8000", id="with-the-version"),
        pytest.param("https://host/llm/v1/", "https://host/llm", id="below-a-path"),
    ],
)
def test_an_external_server(url: str, base: str) -> None:
    """Its address is cut to what every request begins with; nothing is installed or started, and nobody judges."""
    planned = plan("engine=external", f"engine.url={url}", "engine.model=m", "engine.request.ignore_eos=true")
    found = planned.launch
    assert found is not None
    assert (found.url, found.model, found.request) == (base, "m", {"ignore_eos": True})
    assert (found.install, found.argv) == ((), ())
    assert planned.decision.verdicts == ()
    assert planned.decision.engine == "external"


# Plugins that break


def test_a_plugin_that_breaks_while_it_plans_is_named(fake_plugin: Path) -> None:
    """It is the engine's fault, not the user's, and one line."""
    words = ("model=fake-model", "rules=fake", "engine=fake")
    with pytest.raises(EngineError, match=r"^the plugin of fake broke while it planned: KeyError: 'launch'$"):
        plan(*words, "engine.breaks=plan", directory=fake_plugin)
    with pytest.raises(
        ConfigError, match=r"^engine.breaks: invalid enum value 'pln'; it takes plan; did you mean 'plan'"
    ):
        plan(*words, "engine.breaks=pln", directory=fake_plugin)


def test_a_plugin_that_does_not_import_is_unknown(fake_plugin: Path) -> None:
    """Its conditions are judged all the same, and it is never chosen."""
    planned = plan("model=fake-model", "rules=fake", directory=fake_plugin)
    verdicts = {verdict.engine: verdict for verdict in planned.decision.verdicts}
    assert planned.decision.engine == "fake"
    assert verdicts["absent"].verdict == "unknown"
    assert [finding.id for finding in verdicts["absent"].findings] == ["format", "plugin"]
    assert verdicts["absent"].findings[1].observed == "ModuleNotFoundError: No module named 'fake_plugin_absent'"
    assert verdicts["partial"].findings[0].observed == "TypeError: the adapter has no title, port, conf, plan"


@pytest.mark.parametrize("engine", ["absent", "partial"])
def test_a_plugin_that_does_not_import_has_no_file_to_choose(fake_plugin: Path, engine: str) -> None:
    """So it cannot be asked for by name."""
    with pytest.raises(ConfigError, match=f"^there is no engine '{engine}'"):
        plan(f"engine={engine}", directory=fake_plugin)


def test_engines_that_are_left_out_are_unknown(visible_engines: Callable[[str], None]) -> None:
    """XINFER_ENGINES limits which plugins are seen; the pack still knows the others."""
    visible_engines("transformers,sglang")
    planned = plan("model=qwen2-instruct", "hw=cuda")
    verdicts = {verdict.engine: verdict for verdict in planned.decision.verdicts}
    assert planned.decision.engine == "sglang"
    assert verdicts["vllm"].verdict == "unknown"
    assert verdicts["vllm"].findings[-1].observed == "no plugin is installed (XINFER_ENGINES leaves it out)"


def test_an_engine_has_the_same_settings_whether_it_was_named_or_chosen() -> None:
    """So that both are the same cell, and their records compare."""
    chosen, named = plan(), plan("engine=llama_cpp")
    assert chosen.settings == named.settings
    assert chosen.settings["build"] == "wheel"
    assert plan("engine=llama_cpp", "engine.build=native").settings != named.settings


# An API key

KEYED = ("model=qwen2-instruct", "hw=cuda", "rules=xinference-2024-08")


@pytest.mark.parametrize("asked_for", ["api_key=***", "api_key_env=MY_KEY"])
def test_a_plan_says_how_the_server_gets_the_key(monkeypatch: pytest.MonkeyPatch, asked_for: str) -> None:
    """By which variable, but not what it is: nothing else of the plan differs."""
    monkeypatch.setattr(engines.get("vllm"), "key_variables", {"VLLM_API_KEY": "{key}"}, raising=False)
    without, found = launch(*KEYED, "engine=vllm"), launch(*KEYED, "engine=vllm", asked_for)
    assert without.key_variables == found.key_variables == {"VLLM_API_KEY": "{key}"}
    note = "the key is no part of this plan; the server asks for it if it is started with VLLM_API_KEY={key}"
    assert found.notes == (*without.notes, note)
    assert msgspec.structs.replace(found, notes=without.notes) == without


def test_an_engine_that_checks_no_key_is_refused_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before anything is installed; the line names those that check one."""
    for name in ("vllm", "llama_cpp", "sglang", "transformers", "mlx"):
        able = {"A_KEY": "{key}"} if name in ("vllm", "llama_cpp") else {}
        monkeypatch.setattr(engines.get(name), "key_variables", able, raising=False)
    with pytest.raises(ConfigError) as caught:
        plan(*KEYED, "engine=transformers", "api_key_env=MY_KEY")
    assert str(caught.value) == (
        "transformers checks no API key, so everybody here could use it; these check one: llama_cpp, vllm"
    )
    assert launch(*KEYED, "engine=transformers").key_variables == {}

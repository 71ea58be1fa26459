"""How each peer is asked, and where it lives."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from xinfer.catalog import Spec
from xinfer.errors import ConfigError
from xinfer.facts import Hardware
from xinfer.loadgens import peers
from xinfer.loadgens.foreign import Task
from xinfer.loadgens.peers import PEERS, Place
from xinfer.plan import Artefact, LaunchPlan
from xinfer.spec import Workload

if TYPE_CHECKING:
    from collections.abc import Mapping

    from xinfer.plan import Argv

SERVER = ("/e/bin/llama-server", "--model", "/m/x.gguf", "--port", "1", "--threads", "3", "--n-gpu-layers", "all")
FOLDER = Spec(family="m", size="1", format="pytorch", quantization="none", hub="huggingface", id="org/m")
FILE = Spec(family="m", size="1", format="ggufv2", quantization="Q4_0", hub="huggingface", id="org/g", file="g.gguf")
MADE_HERE = Spec(
    family="m", size="1", format="pytorch", quantization="none", hub="pypi", id="p==1", file="p/m.gguf", derived=True
)
CPU = Hardware(profile="cpu", gpus=0)


def work(**changes: Any) -> Workload:
    usual: dict[str, Any] = {"name": "w", "input_tokens": 100, "output_tokens": 16, "requests": 9, "concurrency": 3}
    return Workload(**usual | changes)


def task(**changes: Any) -> Task:
    usual: dict[str, Any] = {
        "python": "/p", "workload": work(), "directory": "/d", "run_id": "run", "url": "http://h:1", "model": "m",
        "request": {"ignore_eos": True}, "tokenizer": "/t", "trusted": True, "launched": SERVER,
    }  # fmt: skip
    return Task(**usual | changes)


def words(peer: str, **changes: Any) -> Mapping[str, str]:
    """Return each word of the command line with the one that follows it."""
    return dict(pairwise((*PEERS[peer].argv(task(**changes)), "")))


def place(*specs: Spec, **changes: Any) -> Place:
    return Place(**{"specs": specs or (FOLDER,), "hardware": CPU, "home": "/h", "python": "/py", **changes})


def launch(engine: str, variant: str, argv: Argv = ("/e/bin/python", "-m", "x")) -> LaunchPlan:
    made = Artefact(path="/e", steps=())
    return LaunchPlan(engine=engine, version="1", variant=variant, environment=made, argv=argv)


@pytest.mark.parametrize(
    ("peer", "changes", "expected"),
    [
        pytest.param("vllm-bench", {}, {"--request-rate": "inf", "--max-concurrency": "3"}, id="vllm-closed"),
        pytest.param("vllm-bench", {"load": "constant", "rate": 2.5}, {"--request-rate": "2.5", "--burstiness": "inf"},
                     id="vllm-constant"),
        pytest.param("sglang-bench", {}, {"--max-concurrency": "3"}, id="sglang-closed"),
        pytest.param("sglang-bench", {"load": "poisson", "rate": 2.0}, {"--request-rate": "2.0"}, id="sglang-poisson"),
        pytest.param("aiperf", {}, {"--concurrency": "3"}, id="aiperf-closed"),
        pytest.param("aiperf", {"load": "offline"}, {"--concurrency": "9"}, id="aiperf-offline"),
        pytest.param("aiperf", {"load": "constant", "rate": 2.0},
                     {"--request-rate": "2.0", "--arrival-pattern": "constant"}, id="aiperf-constant"),
        pytest.param("aiperf", {"load": "poisson", "rate": 2.0},
                     {"--request-rate": "2.0", "--arrival-pattern": "poisson"}, id="aiperf-poisson"),
    ],
)  # fmt: skip
def test_a_load_is_said_in_the_peers_words(peer: str, changes: dict[str, Any], expected: dict[str, str]) -> None:
    """Each kind of load has the flags that mean it."""
    assert expected.items() <= words(peer, workload=work(**changes)).items()


@pytest.mark.parametrize(
    ("peer", "changes", "absent"),
    [
        pytest.param("vllm-bench", {"load": "offline"}, "--max-concurrency", id="vllm-offline"),
        pytest.param("vllm-bench", {"load": "poisson", "rate": 2.0}, "--burstiness", id="vllm-poisson"),
        pytest.param("sglang-bench", {"load": "offline"}, "--max-concurrency", id="sglang-offline"),
        pytest.param("aiperf", {"load": "poisson", "rate": 2.0}, "--concurrency", id="aiperf-poisson"),
    ],
)
def test_an_open_load_has_no_limit(peer: str, changes: dict[str, Any], absent: str) -> None:
    """What is not a closed loop is not kept to so many requests in flight."""
    assert absent not in words(peer, workload=work(**changes))


@pytest.mark.parametrize(
    ("peer", "expected"),
    [
        pytest.param("vllm-bench", {"--random-input-len": "100", "--random-output-len": "16", "--num-prompts": "9",
                                    "--num-warmups": "3", "--random-range-ratio": "0", "--tokenizer": "/t",
                                    "--extra-body": '{"ignore_eos":true}', "--base-url": "http://h:1"}, id="vllm"),
        pytest.param("sglang-bench", {"--random-input-len": "100", "--random-output-len": "16", "--num-prompts": "9",
                                      "--warmup-requests": "3", "--random-range-ratio": "1.0", "--model": "/t",
                                      "--served-model-name": "m", "--base-url": "http://h:1",
                                      "--extra-request-body": '{"ignore_eos":true}'}, id="sglang"),
        pytest.param("aiperf", {"--prompt-input-tokens-mean": "100", "--prompt-output-tokens-mean": "16",
                                "--request-count": "9", "--warmup-request-count": "3", "--url": "http://h:1",
                                "--extra-inputs": '{"temperature":0,"ignore_eos":true}'}, id="aiperf"),
        pytest.param("llama-bench", {"-m": "/m/x.gguf", "-t": "3", "-ngl": "999", "-p": "100", "-n": "16", "-r": "9",
                                     "-d": "0,100", "-o": "jsonl"}, id="llama-bench"),
    ],
)  # fmt: skip
def test_a_peer_is_asked_for_the_same_work(peer: str, expected: dict[str, str]) -> None:
    """Lengths, counts, the server and what the engine needs in a request are those of the cell."""
    assert expected.items() <= words(peer).items()


@pytest.mark.parametrize(
    ("peer", "flag"),
    [
        pytest.param("vllm-bench", "--extra-body", id="vllm"),
        pytest.param("sglang-bench", "--extra-request-body", id="sglang"),
    ],
)
def test_an_engine_without_fields_of_its_own_gets_none(peer: str, flag: str) -> None:
    """Some servers refuse what they do not know."""
    assert flag not in words(peer, request={})


def test_guidellm_reads_a_scenario() -> None:
    """Its flags cut at commas, so a file says it all: here with a prefix, and a tokenizer that may not execute code."""
    peer = PEERS["guidellm"]
    asked = task(workload=work(shared_prefix=0.25), trusted=False)
    scenario = msgspec.json.decode(peer.inputs(asked)["guidellm-scenario.json"])["spec"]
    assert "/d/guidellm-scenario.json" in peer.argv(asked)
    assert scenario["backend"]["extras"] == {"body": {"temperature": 0, "ignore_eos": True}}
    assert scenario["profile"] == {"kind": "concurrent", "streams": [3]}
    assert scenario["constraints"] == [{"kind": "max_requests", "count": 3 + 9}]
    assert scenario["tokenizer"] == {"kind": "huggingface_auto", "model": "/t", "load_kwargs": {}}
    assert scenario["data"] == [
        {"kind": "synthetic_text", "prompt_tokens": 75, "output_tokens": 16, "prefix_tokens": 25, "prefix_count": 1}
    ]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        pytest.param({"load": "constant", "rate": 2.0}, {"kind": "constant", "rate": [2.0]}, id="constant"),
        pytest.param({"load": "poisson", "rate": 2.0}, {"kind": "poisson", "rate": [2.0]}, id="poisson"),
        pytest.param({"load": "offline"}, {"kind": "throughput", "max_concurrency": None}, id="offline"),
    ],
)
def test_guidellm_has_a_profile_for_each_load(changes: dict[str, Any], expected: dict[str, Any]) -> None:
    """The other loads than the closed loop, in a scenario's words; a trusted tokenizer may execute what it brings."""
    files = PEERS["guidellm"].inputs(task(workload=work(**changes)))
    scenario = msgspec.json.decode(files["guidellm-scenario.json"])["spec"]
    assert scenario["profile"] == expected
    assert scenario["tokenizer"]["load_kwargs"] == {"trust_remote_code": True}
    assert "prefix_tokens" not in scenario["data"][0]


@pytest.mark.parametrize(
    ("peer", "expected"),
    [
        pytest.param("vllm-bench", {"--random-prefix-len": "25", "--random-input-len": "75"}, id="vllm"),
        pytest.param("aiperf", {"--prompt-prefix-pool-size": "1", "--prompt-prefix-length": "25",
                                "--prompt-input-tokens-mean": "75"}, id="aiperf"),
    ],
)  # fmt: skip
def test_a_shared_prefix_is_part_of_the_prompt(peer: str, expected: dict[str, str]) -> None:
    """With its own part, a prompt has the asked length."""
    assert expected.items() <= words(peer, workload=work(shared_prefix=0.25)).items()


@pytest.mark.parametrize("peer", [name for name, peer in PEERS.items() if peer.scope == "http"])
def test_a_trace_is_not_given_to_a_peer(peer: str) -> None:
    """None replays one as xinfer does."""
    with pytest.raises(ConfigError, match=f"loadgen={peer} sends no load=trace"):
        PEERS[peer].argv(task(workload=work(load="trace", trace="t.jsonl")))


@pytest.mark.parametrize(
    ("peer", "flag"),
    [
        pytest.param("vllm-bench", "--trust-remote-code", id="vllm"),
        pytest.param("aiperf", "--tokenizer-trust-remote-code", id="aiperf"),
    ],
)
def test_code_of_a_tokenizer_runs_only_if_allowed(peer: str, flag: str) -> None:
    """The flag is there exactly where the user has allowed it, or there is no such code."""
    assert flag in words(peer, trusted=True)
    assert flag not in words(peer, trusted=False)


def test_sglang_bench_is_refused_a_tokenizer_that_is_not_trusted() -> None:
    """It would execute whatever comes with it: nothing can tell it not to."""
    with pytest.raises(ConfigError, match="executes whatever code comes with a tokenizer"):
        PEERS["sglang-bench"].argv(task(trusted=False))


def test_llama_bench_needs_the_compiled_engine() -> None:
    """The wheel has no such program, and the error says what has."""
    with pytest.raises(ConfigError, match=r"say engine\.build=native"):
        PEERS["llama-bench"].argv(task(launched=("/e/bin/python", "-I", "server.py")))


def test_llama_bench_keeps_a_number_of_layers() -> None:
    """Only the word for all of them is written otherwise."""
    launched = ("/e/bin/llama-server", "--n-gpu-layers", "7")
    assert words("llama-bench", launched=launched)["-ngl"] == "7"


@pytest.mark.parametrize("peer", [name for name in PEERS if name != "guidellm"])
def test_what_is_said_in_flags_needs_no_file(peer: str) -> None:
    """Nothing is put beside a peer that is told everything in its command line."""
    assert PEERS[peer].inputs(task()) == {}


@pytest.mark.parametrize("peer", PEERS)
def test_nothing_asks_a_hub_for_what_lies_here(peer: str) -> None:
    """Every peer that is not misled by it is told to stay offline, and none reports anything."""
    variables = PEERS[peer].variables(task())
    assert ("HF_HUB_OFFLINE" in variables) is (peer not in {"aiperf", "llama-bench"})
    assert variables.get("DO_NOT_TRACK") == (None if peer == "llama-bench" else "1")


def test_an_unknown_name_has_a_nearest_one() -> None:
    """The error lists all of them."""
    peers.check("xinfer")
    peers.check("aiperf")
    with pytest.raises(ConfigError, match=r"loadgen=vlm-bench: there are xinfer, .*; did you mean 'vllm-bench'\?"):
        peers.check("vlm-bench")


def test_the_running_engines_environment_is_used() -> None:
    """vLLM's client is in the environment of the vLLM that runs, or in the user's own interpreter."""
    running = launch("vllm", "cpu")
    found = peers.plan("vllm-bench", place(launch=running), work())
    assert (found.needs.environment, found.python) == (running.environment, "/e/bin/python")
    own = msgspec.structs.replace(running, environment=None, argv=("/mine/python", "-m", "vllm"))
    found = peers.plan("vllm-bench", place(launch=own), work())
    assert (found.needs.environment, found.python) == (None, "/mine/python")


def test_a_peer_without_its_engine_gets_the_engines_own_environment() -> None:
    """Beside another engine, vLLM's client lives where this machine's vLLM would, so that they share it."""
    found = peers.plan("vllm-bench", place(launch=launch("llama_cpp", "wheel-cpu")), work())
    assert found.needs.environment is not None
    assert "/h/environments/vllm-cpu-" in found.needs.environment.path
    assert found.python == f"{found.needs.environment.path}/bin/python"


def test_a_peer_that_needs_more_than_its_engine_lives_apart() -> None:
    """SGLang's client imports a package that its server for CPUs does not need, so nothing is added to the server's."""
    made = peers.plan("sglang-bench", place(MADE_HERE, launch=launch("sglang", "cpu")), work()).needs.environment
    assert made is not None
    assert "/h/environments/loadgen-sglang-bench-" in made.path
    assert any("datasets==" in word for word in made.steps[-1])
    cuda = Hardware(profile="h100", gpus=1, gpu=msgspec.convert({"vendor": "nvidia"}, type(CPU.gpu)))
    running = launch("sglang", "cuda")
    assert (
        peers.plan("sglang-bench", place(MADE_HERE, hardware=cuda, launch=running), work()).needs.environment
        == running.environment
    )
    alone = peers.plan("sglang-bench", place(MADE_HERE, hardware=cuda), work()).needs.environment
    assert alone is not None
    assert "/h/environments/sglang-cuda-" in alone.path


@pytest.mark.parametrize("peer", ["guidellm", "aiperf"])
def test_a_peer_with_a_package_of_its_own_has_an_environment_of_its_own(peer: str) -> None:
    """It is named after the peer, and installed as pinned."""
    made = peers.plan(peer, place(), work()).needs.environment
    assert made is not None
    assert f"/h/environments/loadgen-{peer}-" in made.path
    assert made.steps[-1][-1].startswith(f"{peer}==")


@pytest.mark.parametrize(
    ("specs", "tokenizer", "trusted"),
    [
        pytest.param((FILE, FOLDER), "org/m", False, id="a-file-has-the-tokenizer-of-its-folder"),
        pytest.param((FOLDER, FILE), "org/m", False, id="a-folder-has-its-own"),
        pytest.param((msgspec.structs.replace(FOLDER, remote_code=True),), "org/m", True, id="code-that-was-allowed"),
    ],
)
def test_the_tokenizer_is_the_models_own(specs: tuple[Spec, ...], tokenizer: str, *, trusted: bool) -> None:
    """Whatever format runs, the tokenizer comes from one that has it as files."""
    found = peers.plan("aiperf", place(*specs), work())
    assert (found.tokenizer, found.trusted, found.needs.weights) == (tokenizer, trusted, ())


def test_a_tokenizer_that_is_made_here_is_made_first() -> None:
    """Its directories are among what must be complete, and it brings no code."""
    found = peers.plan("aiperf", place(FILE, MADE_HERE), work())
    assert found.tokenizer == found.needs.weights[-1].path
    assert found.trusted


def test_a_model_without_a_folder_has_no_tokenizer_for_a_peer() -> None:
    """Another size's will not do."""
    with pytest.raises(ConfigError, match="needs the tokenizer of m 1 in a folder"):
        peers.plan("aiperf", place(FILE, msgspec.structs.replace(FOLDER, size="7")), work())


def test_what_a_peer_cannot_send_is_refused_before_anything_starts() -> None:
    """The plan tries the command line, so that no server is started for nothing."""
    with pytest.raises(ConfigError, match="loadgen=sglang-bench sends no load=constant"):
        peers.plan("sglang-bench", place(MADE_HERE), work(load="constant", rate=1.0))


def test_llama_bench_runs_beside_its_engine() -> None:
    """It needs what the engine needs, and no tokenizer; another engine has none."""
    running = launch("llama_cpp", "native-cpu", SERVER)
    found = peers.plan("llama-bench", place(FILE, launch=running), work())
    assert (found.needs, found.launched, found.python) == (running, SERVER, "/e/bin/python")
    assert found.peer.scope == "inproc"
    own = msgspec.structs.replace(running, environment=None)
    assert peers.plan("llama-bench", place(FILE, launch=own), work()).python == ""
    for other in (None, launch("vllm", "cpu")):
        with pytest.raises(ConfigError, match="is a program of llama_cpp; say engine=llama_cpp"):
            peers.plan("llama-bench", place(FILE, launch=other), work())

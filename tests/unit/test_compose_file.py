"""A plan as a Compose file."""

from __future__ import annotations

from typing import Any

import deployed
import msgspec
import pytest
import yaml

from xinfer.deploying import container
from xinfer.deploying.compose import HEALTH, literal, text


def file(case: str) -> dict[str, Any]:
    document: dict[str, Any] = yaml.safe_load(deployed.text(deployed.CASES[case], "compose"))
    return document


def server(case: str) -> dict[str, Any]:
    found: dict[str, Any] = file(case)["services"]["server"]
    return found


@pytest.mark.parametrize("case", deployed.CASES)
def test_what_is_served(case: str) -> None:
    """The plan's command and variables, in the container's image, asked for its health where the plan says."""
    deployment = deployed.deployment(deployed.CASES[case], "compose")
    made, found = container.contained(deployment, "compose"), server(case)
    assert [*found["entrypoint"], *found["command"]] == [word.replace("$", "$$") for word in made.command]
    assert found["image"] == made.image
    assert found["environment"].items() >= {**deployment.launch.env, "HOME": "/xinfer"}.items() - {("HF_TOKEN", None)}
    url = f"http://127.0.0.1:{deployment.launch.port}{deployment.launch.health}"
    assert found["healthcheck"]["test"] == ["CMD", "python3", "-c", HEALTH, url]


@pytest.mark.parametrize("case", deployed.CASES)
def test_only_this_machine_reaches_it(case: str) -> None:
    """It listens on every address of its container, whose one port is published on loopback."""
    found = server(case)
    assert found["command"][found["command"].index("--host") + 1] == "0.0.0.0"
    (port,) = found["ports"]
    assert port.startswith("127.0.0.1:")
    assert "network_mode" not in found
    assert "privileged" not in found


@pytest.mark.parametrize(
    ("case", "devices"),
    [
        pytest.param("vllm-cuda", [{"driver": "nvidia", "count": 1, "capabilities": ["gpu"]}], id="one"),
        pytest.param("vllm-cuda-4", [{"driver": "nvidia", "count": 4, "capabilities": ["gpu"]}], id="as-it-is-split"),
        pytest.param(
            "transformers-cuda", [{"driver": "nvidia", "count": 1, "capabilities": ["gpu"]}], id="what-it-uses",
        ),
    ],
)  # fmt: skip
def test_nvidias_gpus(case: str, devices: list[dict[str, Any]]) -> None:
    """Docker's own driver hands over as many as the server uses."""
    assert server(case)["deploy"]["resources"] == {"reservations": {"devices": devices}}


def test_amds_gpus() -> None:
    """They are devices of the machine."""
    found = server("vllm-rocm")
    assert found["devices"] == ["/dev/kfd", "/dev/dri"]
    assert "deploy" not in found


def test_a_cpus_memory() -> None:
    """It is limited where it was estimated, and no GPU is asked for."""
    found = server("llama_cpp-cpu")
    assert found["deploy"]["resources"] == {"limits": {"memory": "1gb"}}
    assert "devices" not in found


def test_shared_memory() -> None:
    """Engines of several processes have more than 64 MiB; llama.cpp is one process."""
    assert [server(case).get("shm_size") for case in ("vllm-cuda", "sglang-cuda-8", "llama_cpp-cpu")] == [
        "8gb", "32gb", None,
    ]  # fmt: skip


def test_what_has_to_be_installed_first() -> None:
    """A service of its own fills the volume, once; the server waits until it has done so."""
    services = file("llama_cpp-cpu")["services"]
    assert list(services) == ["install", "server"]
    assert services["server"]["depends_on"] == {"install": {"condition": "service_completed_successfully"}}
    assert services["install"]["volumes"] == services["server"]["volumes"] == ["xinfer:/xinfer"]
    assert "restart" not in services["install"]


def test_nothing_has_to_be_installed() -> None:
    """An engine's image that fetches the weights itself is all there is."""
    assert list(file("vllm-cuda")["services"]) == ["server"]
    assert "depends_on" not in server("vllm-cuda")


def test_programs_are_inline() -> None:
    """One file is all that is copied to the machine that serves; its dollars are not variables of Compose."""
    whole = file("llama_cpp-cpu")
    assert list(whole["configs"]) == ["server"]
    assert whole["services"]["server"]["configs"] == [{"source": "server", "target": "/opt/xinfer/server.py"}]
    body = whole["configs"]["server"]["content"]
    deployment = deployed.deployment(deployed.CASES["llama_cpp-cpu"], "compose")
    assert body.replace("$$", "$") in deployment.programs.values()


@pytest.mark.parametrize(
    ("case", "variable", "value"),
    [
        ("vllm-key", "VLLM_API_KEY", "${SERVER_KEY:?the key that the server shall ask for}"),
        ("llama_cpp-cuda-key", "LLAMA_API_KEY", ",".join(["${SERVER_KEY:?the key that the server shall ask for}"] * 2)),
    ],
)
def test_the_key_comes_from_whoever_starts_it(case: str, variable: str, value: str) -> None:
    """Compose refuses to start without it."""
    assert server(case)["environment"][variable] == value


def test_the_hubs_token() -> None:
    """It is passed on to whoever fetches from that hub, and to nobody else."""
    assert server("vllm-cuda")["environment"]["HF_TOKEN"] is None
    services = file("llama_cpp-cuda-key")["services"]
    assert ["HF_TOKEN" in services[name]["environment"] for name in ("install", "server")] == [True, False]
    assert "HF_TOKEN" not in deployed.text(deployed.CASES["vllm-cpu"], "compose")


def test_a_model_of_this_machine_is_mounted() -> None:
    """At its own path, and for reading alone; no hub is asked."""
    deployment = deployed.deployment(deployed.CASES["llama_cpp-cpu"], "compose")
    local = msgspec.structs.replace(deployment, local=("/m/it's $1.gguf",), hub="local")
    found = yaml.safe_load(text(local))["services"]["server"]
    path = "/m/it's $$1.gguf"
    assert found["volumes"][1] == {"type": "bind", "source": path, "target": path, "read_only": True}
    assert "HF_TOKEN" not in found["environment"]


def test_paths_that_nobody_mounts_are_said() -> None:
    """A user's own flag may name one."""
    made = deployed.text("hw=cpu engine=llama_cpp engine.args.chat-template-file=/home/me/t.jinja", "compose")
    assert "#   paths         are of this machine, and the container has none of them: /home/me/t.jinja\n" in made


def test_no_dollar_is_a_variable() -> None:
    """Values keep theirs, keys too; what is no text stays what it is."""
    assert literal({"$k": ["$a", ("${b}", 1)], "n": None}) == {"$k": ["$$a", ["$${b}", 1]], "n": None}

"""A plan for a Kubernetes cluster."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import deployed
import kubernetes_validate
import msgspec
import pytest
import yaml

from xinfer.deploying import container
from xinfer.deploying.kubernetes import text
from xinfer.errors import ConfigError
from xinfer.facts import Gpu, Hardware

if TYPE_CHECKING:
    from xinfer.deploying.deployment import Deployment


def read(made: str) -> dict[str, dict[str, Any]]:
    return {document["kind"]: document for document in yaml.safe_load_all(made)}


def manifests(case: str) -> dict[str, dict[str, Any]]:
    return read(deployed.text(deployed.CASES[case], "kubernetes"))


def pod(case: str) -> dict[str, Any]:
    found: dict[str, Any] = manifests(case)["Deployment"]["spec"]["template"]["spec"]
    return found


def server(case: str) -> dict[str, Any]:
    (found,) = pod(case)["containers"]
    assert isinstance(found, dict)
    return found


def expanded(value: str, variables: dict[str, str]) -> str:
    """Do as the kubelet does with a word: $(NAME) is a variable, and $$ a dollar."""
    return re.sub(r"\$\$|\$\((\w+)\)", lambda m: "$" if m[0] == "$$" else variables[m[1]], value)


@pytest.mark.parametrize("case", deployed.CASES)
def test_kubernetes_own_schema_knows_every_field(case: str) -> None:
    """Strictly: a field that is misspelt or misplaced is an error."""
    for manifest in manifests(case).values():
        kubernetes_validate.validate(manifest, kubernetes_validate.latest_version(), strict=True)


@pytest.mark.parametrize("case", deployed.CASES)
def test_what_is_served(case: str) -> None:
    """The plan's command and variables, in the container's image, probed where the plan says."""
    deployment = deployed.deployment(deployed.CASES[case], "kubernetes")
    made, found = container.contained(deployment, "kubernetes"), server(case)
    assert [expanded(word, {}) for word in (*found["command"], *found["args"])] == list(made.command)
    plain = {entry["name"]: entry.get("value") for entry in found["env"]}
    assert {name: expanded(plain[name] or "", {}) for name in deployment.launch.env} == deployment.launch.env
    assert (found["image"], plain["HOME"], plain["USER"]) == (made.image, "/xinfer", "xinfer")
    for probe in (found["startupProbe"], found["readinessProbe"]):
        assert probe["httpGet"] == {"path": deployment.launch.health, "port": "http"}


@pytest.mark.parametrize("case", deployed.CASES)
def test_only_the_cluster_reaches_it(case: str) -> None:
    """A Service without a port of any node, and a pod with no network but its own."""
    found = manifests(case)
    assert found["Service"]["spec"]["type"] == "ClusterIP"
    assert {"hostNetwork", "hostIPC", "hostPID"}.isdisjoint(pod(case))
    assert not any("hostPort" in port for port in server(case)["ports"])
    selector = found["Service"]["spec"]["selector"]
    template = found["Deployment"]["spec"]["template"]["metadata"]["labels"]
    assert selector == found["Deployment"]["spec"]["selector"]["matchLabels"]
    assert selector.items() <= template.items()


@pytest.mark.parametrize("case", deployed.CASES)
def test_nobody_is_root(case: str) -> None:
    """Each container could run in a namespace that enforces the restricted standard."""
    found = pod(case)
    assert found["securityContext"]["runAsNonRoot"] is True
    assert found["securityContext"]["runAsUser"] > 0
    assert found["automountServiceAccountToken"] is False
    for each in (*found.get("initContainers", ()), *found["containers"]):
        assert each["securityContext"] == {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}


@pytest.mark.parametrize(
    ("case", "resources"),
    [
        pytest.param("vllm-cuda", {"limits": {"nvidia.com/gpu": 1}}, id="nvidia"),
        pytest.param("vllm-cuda-4", {"limits": {"nvidia.com/gpu": 4}}, id="as-it-is-split"),
        pytest.param("vllm-rocm", {"limits": {"amd.com/gpu": 1}}, id="amd"),
        pytest.param(
            "llama_cpp-cpu", {"requests": {"cpu": 8, "memory": "1Gi"}, "limits": {"memory": "1Gi"}}, id="a-cpu",
        ),
    ],
)  # fmt: skip
def test_the_resources(case: str, resources: dict[str, Any]) -> None:
    """What the plan knows of, and nothing else."""
    assert server(case).get("resources") == resources


def test_a_machine_of_which_nothing_is_known() -> None:
    """Nothing is asked for."""
    deployment = deployed.deployment(deployed.CASES["llama_cpp-cpu"], "kubernetes")
    memory = msgspec.structs.replace(deployment.launch.memory, total_gib=None)
    launch = msgspec.structs.replace(deployment.launch, memory=memory)
    unknown = msgspec.structs.replace(deployment, launch=launch, hardware=Hardware(profile="h"), stored_gib=None)
    made = read(text(unknown))
    found = made["Deployment"]["spec"]["template"]["spec"]
    assert "resources" not in found["containers"][0]
    assert "PersistentVolumeClaim" not in made
    assert found["volumes"][0] == {"name": "xinfer", "emptyDir": {}}


@pytest.mark.parametrize(
    ("case", "least", "most"),
    [
        pytest.param("vllm-cuda", 14, 16, id="of-one-gpu"),
        pytest.param("vllm-cuda-4", 135, 146, id="of-all-of-them-on-several"),
        pytest.param("vllm-cpu", 0, 2, id="and-for-what-they-are-made-from"),
    ],
)
def test_the_volume_has_room_for_the_weights(case: str, least: int, most: int) -> None:
    """All of them, whatever part of them one GPU has, and 20 GiB."""
    claim = manifests(case)["PersistentVolumeClaim"]
    asked = int(claim["spec"]["resources"]["requests"]["storage"].removesuffix("Gi"))
    assert least < asked - 20 <= most
    mount = {"name": "xinfer", "persistentVolumeClaim": {"claimName": claim["metadata"]["name"]}}
    assert mount in pod(case)["volumes"]


@pytest.mark.parametrize("case", deployed.CASES)
def test_every_mount_has_its_volume(case: str) -> None:
    """And every volume is mounted."""
    found = pod(case)
    volumes = {volume["name"] for volume in found["volumes"]}
    for each in (*found.get("initContainers", ()), *found["containers"]):
        assert {mount["name"] for mount in each["volumeMounts"]} == volumes


def test_what_has_to_be_installed_first() -> None:
    """A container that runs before the server fills the volume; its dollars are the shell's."""
    (install,) = pod("llama_cpp-cpu")["initContainers"]
    script = container.contained(deployed.deployment(deployed.CASES["llama_cpp-cpu"], "kubernetes"), "k").script
    assert [expanded(word, {}) for word in install["args"]] == [script]
    assert "initContainers" not in pod("vllm-cuda")


@pytest.mark.parametrize(("case", "value"), [("vllm-key", "s3cret"), ("llama_cpp-cuda-key", "s3cret,s3cret")])
def test_the_key_comes_from_a_secret(case: str, value: str) -> None:
    """Its name is the variable's that the user named, and the server's variables are made from it."""
    deployment = deployed.deployment(deployed.CASES[case], "kubernetes")
    env = server(case)["env"]
    (secret,) = (entry for entry in env if entry["name"] == "XINFER_API_KEY")
    assert secret["valueFrom"]["secretKeyRef"] == {"name": "xinfer-qwen2-instruct", "key": "SERVER_KEY"}
    (variable,) = deployment.launch.key_variables
    (entry,) = (entry for entry in env[env.index(secret) :] if entry["name"] == variable)
    assert expanded(entry["value"], {"XINFER_API_KEY": "s3cret"}) == value


def test_the_hubs_token_is_optional() -> None:
    """It goes to whoever fetches from that hub, and to nobody else."""
    (entry,) = (entry for entry in server("vllm-cuda")["env"] if entry["name"] == "HF_TOKEN")
    assert entry["valueFrom"]["secretKeyRef"]["optional"] is True
    (install,) = pod("llama_cpp-cuda-key")["initContainers"]
    assert install["env"][-1] == entry
    assert not any(entry["name"] == "HF_TOKEN" for entry in server("llama_cpp-cuda-key")["env"])
    assert "HF_TOKEN" not in deployed.text(deployed.CASES["vllm-cpu"], "kubernetes")


def refused(**fields: Any) -> Deployment:
    return msgspec.structs.replace(deployed.deployment(deployed.CASES["vllm-cuda"], "kubernetes"), **fields)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        pytest.param(
            {"local": ("/m/a.gguf",)},
            r"/m/a\.gguf is on this machine, where no cluster sees it; say model=hf, or format=compose", id="a-file",
        ),
        pytest.param(
            {"hardware": Hardware(profile="h", gpus=1, gpu=Gpu(vendor="intel"))},
            "no resource of a cluster is known for intel GPUs; say format=shell", id="a-gpu-without-a-name",
        ),
        pytest.param(
            {"hardware": Hardware(profile="h", gpus=1)},
            "no resource of a cluster is known for unknown GPUs; say format=shell", id="a-gpu-of-nobody",
        ),
    ],
)  # fmt: skip
def test_what_a_cluster_cannot_have(fields: dict[str, Any], said: str) -> None:
    """One line says so, and what there is instead."""
    with pytest.raises(ConfigError, match=f"^format=kubernetes: {said}$"):
        text(refused(**fields))


def test_paths_that_the_pod_has_not_are_said() -> None:
    """A user's own flag may name one."""
    made = deployed.text("hw=cpu engine=llama_cpp engine.args.chat-template-file=/home/me/t.jinja", "kubernetes")
    assert "are of this machine, and the pod has none of them: /home/me/t.jinja\n" in made

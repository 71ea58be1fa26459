"""A plan for a Kubernetes cluster: a Deployment behind a Service that only the cluster reaches, and its volume."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from xinfer.deploying import container as contain
from xinfer.deploying import deployment as common
from xinfer.deploying import dumping
from xinfer.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from xinfer.deploying.container import Container
    from xinfer.deploying.deployment import Deployment

GPUS = {"nvidia": "nvidia.com/gpu", "amd": "amd.com/gpu"}
"""What their device plugins call one GPU."""
USER, GROUP = 2000, 0
"""Nobody's user in the root group, for whom vLLM's image is prepared, and whom a volume's group lets write:
https://docs.vllm.ai/en/latest/deployment/docker/."""
HOST_WHY = (
    "0.0.0.0 in the pod, whose own loopback neither probe nor Service reaches; the Service is the cluster's alone, "
    "with no node's port and no ingress"
)
SPARE_GIB = 20
"""Room on the volume for environments and caches, beside the weights."""
PERIOD_S = 10
KEY = "XINFER_API_KEY"
"""The variable that the others which hold the key are made from."""


def text(deployment: Deployment) -> str:
    """Return the manifests; ConfigError for what a cluster cannot have."""
    common.check_linux(deployment, "kubernetes")
    if deployment.local:
        message = f"{deployment.local[0]} is on this machine, where no cluster sees it"
        raise ConfigError(f"format=kubernetes: {message}; say model=hf, or format=compose")
    vendor = deployment.hardware.gpu.vendor
    if common.gpus(deployment) and vendor not in GPUS:
        raise ConfigError(
            f"format=kubernetes: no resource of a cluster is known for {vendor or 'unknown'} GPUs; say format=shell"
        )
    container = contain.contained(deployment, "kubernetes")
    head = common.comments(deployment, dict(_notes(deployment, container)), {"--host": HOST_WHY})
    return "\n".join([*head, dumping.dump(*_manifests(deployment, container))])


def literal(word: str) -> str:
    """Return a word in which the kubelet finds no variable."""
    return word.replace("$", "$$")


def _notes(deployment: Deployment, container: Container) -> Iterator[tuple[str, str]]:
    name, port = common.name(deployment), deployment.launch.port
    yield "reach it", f"kubectl port-forward service/{name} {port}"
    yield "image", container.image_why
    yield "HOME", contain.HOME_WHY
    yield "strategy", "Recreate: a second pod would wait for the GPU and the volume of the first"
    yield "enableServiceLinks", "a Service's variables, such as VLLM_PORT, would be taken for settings"
    yield "securityContext", f"user {USER} of group {GROUP}, nothing to gain, and no token of the cluster"
    if deployment.hardware.gpu.vendor == "amd" and common.gpus(deployment):
        yield "supplementalGroups", "is to be added where /dev/kfd is for a group alone: its number is the node's"
    yield "startupProbe", "start_timeout_s=; what the engine fetches at its first start counts too"
    yield (
        "resources",
        (
            "memory is the plan's estimate, and a quarter more as the limit"
            if common.memory_gib(deployment)
            else "main memory is not estimated for this plan, so it has no limit"
        ),
    )
    yield (
        "volume",
        (
            f"as large as the weights need, and {SPARE_GIB} GiB"
            if _storage_gib(deployment)
            else "emptyDir, gone with the pod: how large a claim must be is not known for this model"
        ),
    )
    if deployment.recipe.shm_gib:
        yield "shm", "its processes talk in shared memory, of which a pod has 64 MiB otherwise"
    if deployment.key:
        yield "key", f'kubectl create secret generic {name} --from-literal={deployment.key}="${deployment.key}"'
    if deployment.hub == "huggingface":
        yield "HF_TOKEN", f"only gated models need it: the key of that name in the secret {name}, if there is one"
    if words := contain.foreign(deployment, container):
        yield "paths", f"are of this machine, and the pod has none of them: {' '.join(words)}"


def _storage_gib(deployment: Deployment) -> int | None:
    stored = deployment.stored_gib
    return None if stored is None else math.ceil(stored) + SPARE_GIB


def _manifests(deployment: Deployment, container: Container) -> Iterator[dict[str, Any]]:
    name, port = common.name(deployment), deployment.launch.port
    labels = {"app.kubernetes.io/name": name, "app.kubernetes.io/managed-by": "xinfer"}
    meta = {"name": name, "labels": labels}
    if storage := _storage_gib(deployment):
        claim = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": f"{storage}Gi"}}}
        yield {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": meta, "spec": claim}
    if container.files:
        yield {"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "data": container.files}
    selector = {"app.kubernetes.io/name": name}
    yield {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": meta,
        "spec": {
            "replicas": 1,
            "strategy": {"type": "Recreate"},
            "selector": {"matchLabels": selector},
            "template": {"metadata": {"labels": labels}, "spec": _pod(deployment, container)},
        },
    }
    ports = [{"name": "http", "port": port, "targetPort": "http"}]
    service = {"type": "ClusterIP", "selector": selector, "ports": ports}
    yield {"apiVersion": "v1", "kind": "Service", "metadata": meta, "spec": service}


def _pod(deployment: Deployment, container: Container) -> dict[str, Any]:
    security = {
        "runAsNonRoot": True,
        "runAsUser": USER,
        "runAsGroup": GROUP,
        "fsGroup": GROUP,
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    before = {"initContainers": [_install(deployment, container)]} if container.script else {}
    return {
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "securityContext": security,
        **before,
        "containers": [_server(deployment, container)],
        "volumes": list(_volumes(deployment, container)),
    }


def _install(deployment: Deployment, container: Container) -> dict[str, Any]:
    return {
        "name": "install",
        "image": contain.BASE,
        "command": ["bash", "-c"],
        "args": [literal(container.script)],
        "env": [{"name": "HOME", "value": contain.HOME}, *_token(deployment, installing=True)],
        "securityContext": _nothing_to_gain(),
        "volumeMounts": list(_mounts(deployment, container)),
    }


def _server(deployment: Deployment, container: Container) -> dict[str, Any]:
    probe = {
        "httpGet": {"path": deployment.launch.health, "port": "http"},
        "periodSeconds": PERIOD_S,
        "timeoutSeconds": 5,
    }
    patience = max(1, math.ceil(deployment.start_timeout_s / PERIOD_S))
    cut = next((at for at, word in enumerate(container.command) if word.startswith("--")), len(container.command))
    limits = _resources(deployment)
    return {
        "name": "server",
        "image": container.image,
        "command": [literal(word) for word in container.command[:cut]],
        "args": [literal(word) for word in container.command[cut:]],
        "env": list(_env(deployment, container)),
        "ports": [{"name": "http", "containerPort": deployment.launch.port}],
        "startupProbe": {**probe, "failureThreshold": patience},
        "readinessProbe": {**probe, "failureThreshold": 3},
        **({"resources": limits} if limits else {}),
        "securityContext": _nothing_to_gain(),
        "volumeMounts": list(_mounts(deployment, container)),
    }


def _nothing_to_gain() -> dict[str, Any]:
    return {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}


def _env(deployment: Deployment, container: Container) -> Iterator[dict[str, Any]]:
    # PyTorch asks for the user's name, and user 2000 has one in no image but vLLM's.
    variables = {**container.variables, "USER": "xinfer"}
    yield from ({"name": name, "value": literal(value)} for name, value in variables.items())
    if deployment.key:
        yield _secret(deployment, KEY, deployment.key)
        for name, value in deployment.launch.key_variables.items():
            yield {"name": name, "value": f"$({KEY})".join(map(literal, value.split("{key}")))}
    yield from _token(deployment, installing=False)


def _token(deployment: Deployment, *, installing: bool) -> Iterator[dict[str, Any]]:
    if common.takes_token(deployment, installing=installing):
        yield _secret(deployment, "HF_TOKEN", "HF_TOKEN", optional=True)


def _secret(deployment: Deployment, variable: str, key: str, **more: bool) -> dict[str, Any]:
    return {"name": variable, "valueFrom": {"secretKeyRef": {"name": common.name(deployment), "key": key, **more}}}


def _resources(deployment: Deployment) -> dict[str, Any]:
    used, memory, cores = common.gpus(deployment), common.memory_gib(deployment), deployment.hardware.cores
    requests = {
        **({"cpu": cores} if cores else {}),
        **({"memory": f"{memory[0]}Gi"} if memory else {}),
    }
    limits = {
        **({"memory": f"{memory[1]}Gi"} if memory else {}),
        **({GPUS[deployment.hardware.gpu.vendor or ""]: used} if used else {}),
    }
    return {**({"requests": requests} if requests else {}), **({"limits": limits} if limits else {})}


def _volumes(deployment: Deployment, container: Container) -> Iterator[dict[str, Any]]:
    name = common.name(deployment)
    claim = {"persistentVolumeClaim": {"claimName": name}} if _storage_gib(deployment) else {"emptyDir": {}}
    yield {"name": "xinfer", **claim}
    if container.files:
        yield {"name": "programs", "configMap": {"name": name}}
    if deployment.recipe.shm_gib:
        yield {"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": f"{deployment.recipe.shm_gib}Gi"}}


def _mounts(deployment: Deployment, container: Container) -> Iterator[dict[str, Any]]:
    yield {"name": "xinfer", "mountPath": contain.HOME}
    if container.files:
        yield {"name": "programs", "mountPath": contain.PROGRAMS, "readOnly": True}
    if deployment.recipe.shm_gib:
        yield {"name": "shm", "mountPath": "/dev/shm"}  # noqa: S108 -- not a file of ours, but where the system looks

"""A plan as a Compose file: one service that serves, one that fills its volume before, and a port on loopback."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from xinfer.deploying import container as contain
from xinfer.deploying import deployment as common
from xinfer.deploying import dumping

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from xinfer.deploying.container import Container
    from xinfer.deploying.deployment import Deployment

DEVICES = {"amd": ["/dev/kfd", "/dev/dri"], "intel": ["/dev/dri"]}
"""What a GPU is in a container where no driver of Docker's hands it over."""
HOST_WHY = (
    "0.0.0.0 inside the container, whose own loopback nobody else reaches; published on this machine's 127.0.0.1 alone"
)
HEALTH = "import sys, urllib.request as web; web.urlopen(sys.argv[1], timeout=5)"
"""Python that fails unless a page is there: every image has Python, and not every one has curl."""


def text(deployment: Deployment) -> str:
    """Return the file; ConfigError for what a container cannot have."""
    common.check_linux(deployment, "compose")
    container = contain.contained(deployment, "compose")
    notes = dict(_notes(deployment, container))
    head = common.comments(deployment, notes, {"--host": HOST_WHY})
    return "\n".join([*head, dumping.dump(_file(deployment, container))])


def literal(node: Any) -> Any:
    """Return values in which Compose finds no variable of its own."""
    if isinstance(node, str):
        return node.replace("$", "$$")
    if isinstance(node, dict):
        return {key: literal(value) for key, value in node.items()}
    return [literal(value) for value in node] if isinstance(node, (list, tuple)) else node


def _notes(deployment: Deployment, container: Container) -> Iterator[tuple[str, str]]:
    yield "image", container.image_why
    yield "HOME", contain.HOME_WHY
    yield "volume", "has one name for all that xinfer writes: services share what they have in common"
    if container.files:
        yield "configs", "xinfer's own programs, each one file; inline content needs Docker Compose 2.23.1 or later"
    if deployment.recipe.shm_gib:
        yield (
            "shm_size",
            "its processes talk in shared memory, of which a container has 64 MiB otherwise; only a limit",
        )
    if common.memory_gib(deployment):
        yield "memory", "the plan's estimate and a quarter more"
    yield "start_period", "start_timeout_s=; what is fetched at the first start counts too"
    if deployment.key:
        yield "key", f"taken from ${deployment.key} of whoever starts it, and kept in no file"
    if deployment.hub == "huggingface":
        yield "HF_TOKEN", "passed on if it is set; only gated models need it"
    if words := contain.foreign(deployment, container):
        yield "paths", f"are of this machine, and the container has none of them: {' '.join(words)}"


def _file(deployment: Deployment, container: Container) -> dict[str, Any]:
    services = {"install": _install(deployment, container)} if container.script else {}
    services["server"] = _server(deployment, container)
    file = {
        "name": common.name(deployment),
        "services": services,
        "volumes": {"xinfer": {"name": "xinfer"}},
    }
    if container.files:
        file["configs"] = {_config(name): {"content": literal(body)} for name, body in container.files.items()}
    return file


def _install(deployment: Deployment, container: Container) -> dict[str, Any]:
    token = {"HF_TOKEN": None} if common.takes_token(deployment, installing=True) else {}
    return {
        "image": contain.BASE,
        "entrypoint": ["bash", "-c"],
        "command": [literal(container.script)],
        "environment": {"HOME": contain.HOME, **token},
        "volumes": _volumes(deployment),
        **_configs(container),
    }


def _server(deployment: Deployment, container: Container) -> dict[str, Any]:
    launch = deployment.launch
    after = {"depends_on": {"install": {"condition": "service_completed_successfully"}}} if container.script else {}
    cut = next((at for at, word in enumerate(container.command) if word.startswith("--")), len(container.command))
    vendor = deployment.hardware.gpu.vendor or ""
    devices = DEVICES.get(vendor) if common.gpus(deployment) else None
    shared = deployment.recipe.shm_gib
    limits = _resources(deployment)
    return {
        "image": container.image,
        "entrypoint": literal(container.command[:cut]),
        "command": literal(container.command[cut:]),
        "environment": _environment(deployment, container.variables),
        "ports": [f"127.0.0.1:{launch.port}:{launch.port}"],
        "volumes": _volumes(deployment),
        **_configs(container),
        **after,
        **({"devices": devices} if devices else {}),
        **({"shm_size": f"{shared}gb"} if shared else {}),
        "healthcheck": _healthcheck(deployment),
        "security_opt": ["no-new-privileges:true"],
        "restart": "unless-stopped",
        "stop_grace_period": "30s",
        **({"deploy": {"resources": limits}} if limits else {}),
    }


def _environment(deployment: Deployment, variables: Mapping[str, str]) -> dict[str, str | None]:
    given: dict[str, str | None] = literal(dict(variables))
    if deployment.key:
        asked = f"${{{deployment.key}:?the key that the server shall ask for}}"
        for name, value in deployment.launch.key_variables.items():
            given[name] = asked.join(literal(value.split("{key}")))
    return {**given, "HF_TOKEN": None} if common.takes_token(deployment, installing=False) else given


def _volumes(deployment: Deployment) -> list[Any]:
    mounts = [
        {"type": "bind", "source": literal(path), "target": literal(path), "read_only": True}
        for path in deployment.local
    ]
    return [f"xinfer:{contain.HOME}", *mounts]


def _configs(container: Container) -> dict[str, Any]:
    names = container.files
    mounts = [{"source": _config(name), "target": f"{contain.PROGRAMS}/{name}"} for name in names]
    return {"configs": mounts} if mounts else {}


def _config(name: str) -> str:
    return PurePosixPath(name).stem


def _healthcheck(deployment: Deployment) -> dict[str, Any]:
    launch = deployment.launch
    return {
        "test": ["CMD", "python3", "-c", HEALTH, f"http://127.0.0.1:{launch.port}{literal(launch.health)}"],
        "interval": "10s",
        "timeout": "10s",
        "retries": 3,
        "start_period": f"{deployment.start_timeout_s:g}s",
    }


def _resources(deployment: Deployment) -> dict[str, Any]:
    used, memory = common.gpus(deployment), common.memory_gib(deployment)
    resources: dict[str, Any] = {"limits": {"memory": f"{memory[1]}gb"}} if memory else {}
    if used and deployment.hardware.gpu.vendor == "nvidia":
        device = {"driver": "nvidia", "count": used, "capabilities": ["gpu"]}
        resources["reservations"] = {"devices": [device]}
    return resources

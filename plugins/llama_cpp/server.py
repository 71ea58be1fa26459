"""llama.cpp's own server out of the ``xllamacpp`` wheel, which has no command line, with llama-server's flags.

One file that imports the standard library and ``xllamacpp`` alone: it runs in the engine's environment.
"""

from __future__ import annotations

import argparse
import errno
import os
import signal
import socket
import sys
from importlib import import_module, metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from types import ModuleType

AUTO_SLOTS = 4
"""What llama-server makes of ``--parallel -1``, its default, together with one cache for all slots."""
GGML_MAGIC = {b"lmgg", b"fmgg", b"tjgg", b"algg"}
LAYERS = {"auto": -1, "all": -2}
KEY_VARIABLE = "LLAMA_API_KEY"
"""The keys, with a comma between them, where no flag gives them; llama-server knows it too."""
SWITCH = {"on": True, "off": False}


class Value(NamedTuple):
    """A flag with a value: where it goes in ``CommonParams``, and what its text becomes."""

    names: str
    field: str
    read: Callable[[str, ModuleType], Any]


def _text(text: str, _: ModuleType) -> str:
    return text


def _int(text: str, _: ModuleType) -> int:
    return int(text)


def _float(text: str, _: ModuleType) -> float:
    return float(text)


def _on_off(text: str, _: ModuleType) -> bool:
    return SWITCH[text]


def _list(text: str, _: ModuleType) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _set(text: str, module: ModuleType) -> set[str]:
    return set(_list(text, module))


def _layers(text: str, _: ModuleType) -> int:
    return LAYERS[text] if text in LAYERS else int(text)


def _file(text: str, _: ModuleType) -> str:
    return Path(text).read_text(encoding="utf-8")


def _shares(text: str, module: ModuleType) -> list[float]:
    given = [float(part) for part in text.split(",")]
    return given + [0.0] * (len(module.CommonParams().tensor_split) - len(given))


def _member(enum: str, prefix: str, **synonyms: str) -> Callable[[str, ModuleType], Any]:
    """Return a reader of one of the wheel's enumerations."""

    def read(text: str, module: ModuleType) -> Any:
        return getattr(module, enum)[prefix + synonyms.get(text, text).upper().replace("-", "_").replace("+", "_")]

    return read


VALUES = (
    Value("-m --model", "model.path", _text),
    Value("-a --alias", "model_alias", _set),
    Value("--host", "hostnames", _list),
    Value("--port", "port", _int),
    Value("--api-key", "api_keys", _list),
    Value("--api-prefix", "api_prefix", _text),
    Value("--threads-http", "n_threads_http", _int),
    Value("-c --ctx-size", "n_ctx", _int),
    Value("-np --parallel", "n_parallel", _int),
    Value("-n --predict --n-predict", "n_predict", _int),
    Value("--keep", "n_keep", _int),
    Value("-t --threads", "cpuparams.n_threads", _int),
    Value("-tb --threads-batch", "cpuparams_batch.n_threads", _int),
    Value("--poll", "cpuparams.poll", _int),
    Value("--numa", "numa", _member("ggml_numa_strategy", "GGML_NUMA_STRATEGY_")),
    Value("-b --batch-size", "n_batch", _int),
    Value("-ub --ubatch-size", "n_ubatch", _int),
    Value("-ngl --gpu-layers --n-gpu-layers", "n_gpu_layers", _layers),
    Value("-sm --split-mode", "split_mode", _member("llama_split_mode", "LLAMA_SPLIT_MODE_")),
    Value("-ts --tensor-split", "tensor_split", _shares),
    Value("-mg --main-gpu", "main_gpu", _int),
    Value(
        "-fa --flash-attn",
        "flash_attn_type",
        _member("llama_flash_attn_type", "LLAMA_FLASH_ATTN_TYPE_", on="enabled", off="disabled"),
    ),
    Value("-ctk --cache-type-k", "cache_type_k", _member("ggml_type", "GGML_TYPE_")),
    Value("-ctv --cache-type-v", "cache_type_v", _member("ggml_type", "GGML_TYPE_")),
    Value("-lm --load-mode", "load_mode", _member("llama_load_mode", "LLAMA_LOAD_MODE_", dio="direct_io")),
    Value("-cram --cache-ram", "cache_ram_mib", _int),
    Value("--cache-reuse", "n_cache_reuse", _int),
    Value("-ctxcp --ctx-checkpoints", "n_ctx_checkpoints", _int),
    Value("-sps --slot-prompt-similarity", "slot_prompt_similarity", _float),
    Value("-fit --fit", "fit_params", _on_off),
    Value("--rope-freq-base", "rope_freq_base", _float),
    Value("--rope-freq-scale", "rope_freq_scale", _float),
    Value("-s --seed", "sampling.seed", _int),
    Value("--chat-template", "chat_template", _text),
    Value("--chat-template-file", "chat_template", _file),
    Value("-lv --verbosity --log-verbosity", "verbosity", _int),
)
SWITCHES = {
    "--metrics": "endpoint_metrics",
    "--props": "endpoint_props",
    "--slots": "endpoint_slots",
    "--ui": "ui",
    "--webui": "ui",
    "--warmup": "warmup",
    "--jinja": "use_jinja",
    "--cont-batching": "cont_batching",
    "--cache-prompt": "cache_prompt",
    "--cache-idle-slots": "cache_idle_slots",
    "--context-shift": "ctx_shift",
    "--kv-unified": "kv_unified",
    "--swa-full": "swa_full",
    "--check-tensors": "check_tensors",
    "--embeddings": "embedding",
    "--embedding": "embedding",
    "--offline": "offline",
    "--kv-offload": "!no_kv_offload",
    "--op-offload": "!no_op_offload",
    "--repack": "!no_extra_bufts",
    "--perf": "!no_perf",
}
"""Flags without a value, each also as ``--no-…``; ``!`` marks a field of the opposite sense."""


class Parser(argparse.ArgumentParser):
    """A parser whose errors are one line."""

    def error(self, message: str) -> NoReturn:
        """Print what is wrong and leave with 2."""
        self.exit(2, f"{self.prog}: {message}\n")


def parser() -> Parser:
    """Return the parser of all flags; what is not given stays as llama.cpp has it."""
    made = Parser(prog="llama-server (xllamacpp)", allow_abbrev=False, argument_default=argparse.SUPPRESS)
    for value in VALUES:
        names = value.names.split()
        made.add_argument(*names, dest=names[-1], metavar="VALUE", required="--model" in names)
    for name in SWITCHES:
        made.add_argument(name, action=argparse.BooleanOptionalAction, dest=name)
    return made


def keyed(options: dict[str, Any], environ: Mapping[str, str]) -> dict[str, Any]:
    """Add the keys of the environment, where no flag gives any: a command line is seen by everybody."""
    keys = environ.get(KEY_VARIABLE)
    return {"--api-key": keys, **options} if keys else options


def assign(params: Any, field: str, value: object) -> None:
    """Set a field of the parameters by its dotted name."""
    *owners, name = field.split(".")
    for owner in owners:
        params = getattr(params, owner)
    setattr(params, name, value)


def configured(options: dict[str, Any], module: ModuleType) -> Any:
    """Return ``CommonParams`` with llama-server's defaults and the given options; raise ValueError for a value."""
    params = module.CommonParams()
    params.port, params.n_parallel = 8080, -1
    for value in VALUES:
        name = value.names.split()[-1]
        if name in options:
            try:
                assign(params, value.field, value.read(options[name], module))
            except (KeyError, ValueError, TypeError, OverflowError, OSError) as error:
                message = f"{name} {options[name]}: not a value that this flag takes"
                raise ValueError(message) from error
    for name, field in SWITCHES.items():
        if name in options:
            assign(params, field.lstrip("!"), options[name] != field.startswith("!"))
    if params.n_parallel < 0:
        params.n_parallel, params.kv_unified = AUTO_SLOTS, True
    return params


def fault(model: Path) -> str | None:
    """Say what is wrong with a model file, as far as its first bytes tell."""
    try:
        with model.open("rb") as file:
            magic = file.read(4)
    except OSError as error:
        return f"{model}: {error.strerror}"
    if magic in GGML_MAGIC:
        return f"{model}: a GGML file; llama.cpp reads GGUF alone since August 2023"
    return None if magic == b"GGUF" else f"{model}: not a GGUF file"


def is_taken(host: str, port: int) -> bool:
    """Try whether something listens on the port already."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            return error.errno == errno.EADDRINUSE
    return False


def say(line: str) -> None:
    """Write a line to the log, ahead of what llama.cpp's own threads write."""
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()


def main(argv: Sequence[str]) -> NoReturn:
    """Serve until a signal ends the process."""
    # The default action ends the process at once, also while the model is loading inside C++.
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    command = parser()
    options = keyed(vars(command.parse_args(argv)), os.environ)
    if wrong := fault(Path(options["--model"])):
        sys.exit(wrong)
    module = import_module("xllamacpp")
    try:
        params = configured(options, module)
    except ValueError as error:
        command.error(str(error))
    say(f"xllamacpp {metadata.version('xllamacpp')}: {module.get_system_info()}")
    try:
        server = module.Server(params)
    except RuntimeError:
        host, port = params.hostnames[0], params.port
        taken = f"port {port} of {host} is taken"
        sys.exit(taken if is_taken(host, port) else "llama.cpp did not start; it says why above")
    say(f"listening on {server.listening_address}")
    while True:
        signal.pause()


if __name__ == "__main__":
    main(sys.argv[1:])

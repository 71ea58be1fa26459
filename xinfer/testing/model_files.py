"""Small model files that are well-formed, for tests of what reads them; their weights are zeros."""

from __future__ import annotations

import json
import math
import struct
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

GGUF_TYPES = {"F32": (0, 1, 4), "F16": (1, 1, 2), "Q4_0": (2, 32, 18), "Q8_0": (8, 32, 34), "Q4_K": (12, 256, 144)}
"""Number, elements of a block and bytes of a block."""
SAFETENSORS_BITS = {"F32": 32, "F16": 16, "BF16": 16, "I32": 32, "U32": 32, "U8": 8, "I8": 8, "F8_E4M3": 8}
_CODES = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_TEXT, _LIST = 8, 9


class Value(NamedTuple):
    """A metadata value of a kind that Python's own types do not tell."""

    kind: int
    value: Any


LLAMA = {
    "general.architecture": "llama", "general.type": "model", "general.name": "Tiny Llama",
    "llama.block_count": 2, "llama.context_length": 512, "llama.embedding_length": 64,
    "llama.feed_forward_length": 128, "llama.attention.head_count": 4, "llama.attention.head_count_kv": 2,
    "general.file_type": 7, "tokenizer.ggml.tokens": ["a", "b", "c"], "tokenizer.chat_template": "{{ messages }}",
}  # fmt: skip
"""The metadata of a network of two layers."""
LLAMA_TENSORS = {"token_embd.weight": ((64, 3), "Q8_0"), "output_norm.weight": ((64,), "F32")}
CONFIG = {
    "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 64, "intermediate_size": 128,
    "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 3,
    "max_position_embeddings": 512, "torch_dtype": "bfloat16",
}  # fmt: skip
"""The same network's ``config.json``."""
CONFIG_TENSORS = {"model.embed_tokens.weight": ("BF16", (3, 64)), "model.norm.weight": ("BF16", (64,))}


def gguf(
    metadata: Mapping[str, Any] = LLAMA,
    tensors: Mapping[str, tuple[Sequence[int], str]] = LLAMA_TENSORS,
    *,
    version: int = 3,
    alignment: int = 32,
) -> bytes:
    """Return a GGUF file; tensors are given by shape, the shortest step first, and type."""
    header = struct.pack("<4sIQQ", b"GGUF", version, len(tensors), len(metadata))
    header += b"".join(_gguf_text(key) + _gguf_value(value) for key, value in metadata.items())
    data = b""
    for name, (shape, kind) in tensors.items():
        number, block, size = GGUF_TYPES[kind]
        header += _gguf_text(name) + struct.pack("<I", len(shape)) + struct.pack(f"<{len(shape)}Q", *shape)
        header += struct.pack("<IQ", number, len(data))
        data += _padded(bytes(math.prod(shape) // block * size), alignment)
    return _padded(header, alignment) + data


def safetensors(
    tensors: Mapping[str, tuple[str, Sequence[int]]] = CONFIG_TENSORS, metadata: Mapping[str, str] | None = None
) -> bytes:
    """Return a safetensors file; tensors are given by type and shape."""
    header: dict[str, Any] = {} if metadata is None else {"__metadata__": metadata}
    end = 0
    for name, (dtype, shape) in tensors.items():
        begin, end = end, end + math.prod(shape) * SAFETENSORS_BITS[dtype] // 8
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [begin, end]}
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + bytes(end)


def folder(path: Path, files: Mapping[str, bytes | Mapping[str, Any]] | None = None, **config: Any) -> Path:
    """Write a model's folder: the usual files, those given in the place of them, and more keys of its configuration."""
    usual = {
        "config.json": {**CONFIG, **config}, "model.safetensors": safetensors(metadata={"format": "pt"}),
        "tokenizer.json": {}, "tokenizer_config.json": {"chat_template": "{{ messages }}"},
    }  # fmt: skip
    path.mkdir(parents=True, exist_ok=True)
    for name, content in {**usual, **(files or {})}.items():
        (path / name).write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
    return path


def _padded(data: bytes, alignment: int) -> bytes:
    return data + bytes(-len(data) % alignment)


def _gguf_text(text: str) -> bytes:
    return struct.pack("<Q", len(text.encode())) + text.encode()


def _gguf_value(value: Any) -> bytes:
    kind, plain = value if isinstance(value, Value) else (_kind(value), value)
    return struct.pack("<I", kind) + _gguf_content(kind, plain)


def _gguf_content(kind: int, value: Any) -> bytes:
    if kind == _TEXT:
        return _gguf_text(value)
    if kind == _LIST:
        inner = _kind(value[0]) if value else 4
        items = b"".join(_gguf_content(inner, item) for item in value)
        return struct.pack("<IQ", inner, len(value)) + items
    return struct.pack(f"<{_CODES[kind]}", value)


def _kind(value: Any) -> int:
    kinds = {bool: 7, int: 4, float: 6, str: _TEXT, list: _LIST}
    return kinds[type(value)]

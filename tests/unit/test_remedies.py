"""What the output of a failed installation says, in one line with a remedy: words that pip, uv and CMake have said."""

from __future__ import annotations

import pytest

from xinfer.environments.remedies import diagnosis

VERSION = "choose a version that exists for this Python and this machine"
NONE = "there is none for this Python and this machine, or the index did not answer: check network and mirror"
NETWORK = "the network did not answer: check it, and your mirror if you use one, then run it again"
DISK = "free disk space, or choose another disk with home= (for temporary files: TMPDIR)"
DAMAGED = "the download is damaged: run it again; if it stays so, empty the installer's cache or ask your mirror"
COMPILER = "install a C++ compiler (g++ or clang), then run it again"
WRITABLE = "make the directory writable, or choose another home="
LOG = "the log says more"


@pytest.mark.parametrize(
    ("output", "telling", "remedy"),
    [
        pytest.param(
            "ERROR: Could not find a version that satisfies the requirement a==9 (from versions: 1, 2)\n"
            "ERROR: No matching distribution found for a==9",
            "No matching distribution found for a==9", VERSION, id="no-such-version",
        ),
        pytest.param(
            "error: No solution found when resolving dependencies\n"
            "  cause: Because there is no version of a==9 and you require a==9, we can conclude that your requirements "
            "are unsatisfiable.",
            "Because there is no version of a==9 and you require a==9, we can conclude that your requirements are "
            "unsatisfiable", VERSION, id="no-such-version-says-uv",
        ),
        pytest.param(
            "WARNING: Retrying (Retry(total=0)) after connection broken by 'Temporary failure in name resolution'\n"
            "ERROR: Could not find a version that satisfies the requirement a==9 (from versions: none)\n"
            "ERROR: No matching distribution found for a==9",
            "No matching distribution found for a==9", NETWORK, id="no-network-is-told-from-no-such-version",
        ),
        pytest.param(
            "error: Failed to fetch: http://127.0.0.1:9/simple/a/\n  cause: client error (Connect)\n"
            "  cause: Connection refused (os error 111)",
            "Connection refused (os error 111)", NETWORK, id="no-network-says-uv",
        ),
        pytest.param(
            "ERROR: Could not find a version that satisfies the requirement a==9 (from versions: none)\n"
            "ERROR: No matching distribution found for a==9",
            "Could not find a version that satisfies the requirement a==9 (from versions: none)", NONE,
            id="nothing-known-may-be-either",
        ),
        pytest.param(
            "  cause: Because a was not found in the package registry and you require a==9, we can conclude that your "
            "requirements are unsatisfiable.",
            "Because a was not found in the package registry and you require a==9, we can conclude that your "
            "requirements are unsatisfiable", NONE, id="nothing-known-says-uv",
        ),
        pytest.param(
            "Installing collected packages: a\n"
            "ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device\n",
            "Could not install packages due to an OSError: [Errno 28] No space left on device", DISK, id="a-full-disk",
        ),
        pytest.param(
            "ERROR: Could not install packages due to an OSError: [Errno 27] File too large",
            "Could not install packages due to an OSError: [Errno 27] File too large", DISK, id="a-limit-of-files",
        ),
        pytest.param("error: x\n  cause: write (os error 122)", "write (os error 122)", DISK, id="a-full-quota"),
        pytest.param("OSError: [Errno 281] x", "OSError: [Errno 281] x", LOG, id="a-number-that-begins-like-it"),
        pytest.param(
            "ERROR: THESE PACKAGES DO NOT MATCH THE HASHES FROM THE REQUIREMENTS FILE. If you have updated the package "
            "versions, please update the hashes. Otherwise, examine the package contents carefully; someone may have "
            "tampered with them.\n    a==1 from http://i/a.whl:\n        Expected sha256 00",
            "THESE PACKAGES DO NOT MATCH THE HASHES FROM THE REQUIREMENTS FILE. If you have updated the package "
            "versions, please update the hashes", DAMAGED, id="other-bytes-than-promised",
        ),
        pytest.param(
            "error: incomplete-download\n\n\u00d7 Download failed after 6 attempts because not enough bytes were "
            "received (95 kB/100 kB)",
            "Download failed after 6 attempts because not enough bytes were received (95 kB/100 kB)", DAMAGED,
            id="fewer-bytes-than-promised",
        ),
        pytest.param(
            "ERROR: Wheel 'a' located at /t/a-1-py3-none-any.whl is invalid.",
            "Wheel 'a' located at /t/a-1-py3-none-any.whl is invalid", DAMAGED, id="no-archive",
        ),
        pytest.param(
            "  CMake Error at CMakeLists.txt:3 (project):\n    No CMAKE_CXX_COMPILER could be found.\n"
            "  error: subprocess-exited-with-error\nERROR: Failed building wheel for a\n"
            "ERROR: Failed to build installable wheels for some pyproject.toml based projects (a)",
            "No CMAKE_CXX_COMPILER could be found", COMPILER, id="no-compiler",
        ),
        pytest.param(
            "    Could not find the compiler specified in the environment variable CC:\n\n    gcc.\n"
            "  CMake Error: CMAKE_C_COMPILER not set, after EnableLanguage\n  *** CMake configuration failed\n"
            "ERROR: Could not build wheels for a, which is required to install pyproject.toml-based projects",
            "CMake Error: CMAKE_C_COMPILER not set, after EnableLanguage", COMPILER, id="a-compiler-that-is-gone",
        ),
        pytest.param(
            "  error: command '/usr/bin/x86_64-linux-gnu-gcc' failed: No such file or directory\n"
            "ERROR: Failed building wheel for a",
            "command '/usr/bin/x86_64-linux-gnu-gcc' failed: No such file or directory", COMPILER, id="setuptools",
        ),
        pytest.param(
            "  CMake Error at x:1:\n    No CMAKE_CUDA_COMPILER could be found.\nERROR: Failed building wheel for a",
            "No CMAKE_CUDA_COMPILER could be found", "install the CUDA toolkit (nvcc), then run it again",
            id="no-cuda-toolkit",
        ),
        pytest.param(
            "ERROR: Could not install packages due to an OSError: [Errno 13] Permission denied: '/h'",
            "Could not install packages due to an OSError: [Errno 13] Permission denied: '/h'", WRITABLE, id="not-ours",
        ),
        pytest.param(
            'Traceback (most recent call last):\n  File "x", line 1\nValueError: what\nand more', "ValueError: what",
            LOG, id="an-unknown-error-is-quoted",
        ),
        pytest.param("\x1b[31mERROR: red\x1b[0m", "red", LOG, id="colours-are-stripped"),
        pytest.param("one\ntwo", "two", LOG, id="without-an-error-the-last-line"),
        pytest.param("", "it printed nothing", LOG, id="silence"),
        pytest.param("x" * 300, "x" * 200, LOG, id="a-long-line-is-cut"),
    ],
)  # fmt: skip
def test_diagnosis(output: str, telling: str, remedy: str) -> None:
    """The line that says most is quoted, and named is what the user can do."""
    assert diagnosis(output.splitlines()) == (telling, remedy)

"""Raw stamps as files."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from xinfer.errors import ConfigError
from xinfer.measuring.samples import Capabilities, Chunk, Run, Sample, Samples, read, write

ABLE = Capabilities(
    model="m", extras=True, stream_options=True, usage=True, fixed_length=None, cached_tokens=False,
    tokenizer="/tokenize", token_ids=True, notes=("a note",),
)  # fmt: skip
CHUNKS = (Chunk(t_ns=5, characters=3, is_token=True), Chunk(t_ns=6, characters=0, is_token=False, completion_tokens=1))
SAMPLE = Sample(
    index=0, warmup=True, t_sched=1, t_send=2, t_headers=None, t_end=9, chunks=CHUNKS, prompt_tokens_asked=32,
    prompt_tokens=None, completion_asked=1, completion_tokens=None, cached_tokens=None, finish_reason=None,
    status=None, error="refused", detail="connection refused\n…", prompt_hash="ab",
)  # fmt: skip
RUN = Run(capabilities=ABLE, prompts="ids", prompts_hash="cd", client_cpu_s=0.25, started_ns=1, ended_ns=9)
SAMPLES = Samples(run=RUN, samples=(SAMPLE, msgspec.structs.replace(SAMPLE, index=1, warmup=False, error=None)))


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    """Nothing is lost, and every request has a line of its own after the first."""
    write(SAMPLES, tmp_path / "samples.jsonl")
    assert read(tmp_path / "samples.jsonl") == SAMPLES
    lines = (tmp_path / "samples.jsonl").read_text(encoding="utf-8").splitlines()
    assert len(lines) == 3
    assert lines[0].startswith('{"run":')
    assert '"chunks":[[5,3,true,null],[6,0,false,1]]' in lines[1]


@pytest.mark.parametrize("content", [b"", b"{}", b"\xff", b'{"run":1}\n', b"not json\n"])
def test_other_files_are_refused(tmp_path: Path, content: bytes) -> None:
    """A file that is something else is named in one line."""
    path = tmp_path / "samples.jsonl"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=r"samples\.jsonl: not raw stamps of a run: "):
        read(path)


def test_measured_requests_are_those_after_the_warm_up() -> None:
    """Warm-up is kept in the file and left out of numbers."""
    assert [sample.index for sample in SAMPLES.measured] == [1]

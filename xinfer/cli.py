"""The command line: a verb, flags, and ``key=value`` overrides; one line per error, an exit code per kind.

Exit codes: 0 done, 2 what was asked is wrong, 3 the rules or this machine refuse, 4 the engine broke,
5 worse than the baseline, or not as a matrix expects, 130 interrupted.
"""

from __future__ import annotations

import gc
import io
import os
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from xinfer import __version__, apikey
from xinfer.errors import ConfigError, XinferError, nearest
from xinfer.verbs.table import TAKING_PATHS, VERBS, Line

if TYPE_CHECKING:
    from xinfer.config.compose import Composer

USAGE = """\
xinfer: name a model and a machine; get the engine, the reasons, the plan, and measured numbers

usage: python -m xinfer [VERB] [FLAGS] [KEY=VALUE …]

verbs
  run        decide, install, start, measure, record (the default)
  serve      decide, install, start, and stay until Ctrl-C: one OpenAI endpoint on this machine
  parity     whether the engines answer alike: the same prompts to each, every two compared       format=text|json
  compare A B …  whether what was measured in B is better than in A, worse, or the same; each is a record.json, a
             run's directory, a cell's (its runs are repeats), or a runs= directory       format=text|json|markdown
             metric=output_tps,ttft.p99 chooses the numbers; allow=quantization lets the weights' type differ;
             exit code 5 where a number is worse
  export PATH …  the numbers of records for other tools; runs that are flagged give none unless flagged=true
             format=csv|markdown|github-action-benchmark|bencher|pytest-benchmark|openmetrics
             direction=bigger|smaller with github-action-benchmark; metric=output_tps,ttft.p99 or all
  matrix FILE …  every row of files that say which cells there are, and what is expected of each: judged, and run with
             measure=true; exit code 5 where one is not as expected    format=table|json|github|hydra|workflow
             filter=engine=vllm (again: and) narrows; part=2 of what GitHub takes at once; other KEY=VALUE for every row
  provision  make the environment and the weights of the plan      format=text|json
  plan       the decision and the launch plan; touches nothing
             format=text|json|yaml|shell|compose|kubernetes|slurm|systemd
  why        what each engine's rules say of it, and the smallest changes that would make it serve    format=text|json
  choose     of every family what runs and fits on a machine for a workload, best first             format=text|json
  grid       every published artefact x engine for a machine; model= and engine= narrow it     format=csv|json
  diff       where two rule packs judge otherwise, by reason: diff rules=A rules=B           format=text|csv|json
  hardware   what this machine is, or what hw= declares            format=text|json
  models     the families of the catalogue                         format=text|json
  engines    the engines, whether their plugins load, their ports  format=text|json
  environments  what is kept below home=: size, last use, whether complete, whether in use    format=text|json
                unused_days=30: only what nobody has used for so long
                remove=NAME,…: remove what would be listed; a NAME may be a pattern, as in remove='vllm-*'

flags
  -m, --multirun     sweep: every comma-separated value of every key is a cell, as in -m hw=cuda,cpu
                     hydra/launcher=joblib|submitit_local|submitit_slurm|ray has them measured by other processes or
                     machines; hydra.launcher.KEY=VALUE
  --config-dir DIR   search DIR for model/, hw/, engine/, workload/ and rules/ files first
  --cfg              print the composed configuration and stop
  --version, -h, --help

keys (each group is a folder of YAML files)
  model=qwen2-instruct     model.size=7 model.format=gptq model.quantization=Int4 model.hub=huggingface
  model=local              model.path=FILE.gguf, or model.path=FOLDER with a config.json: any model on this machine
  model=hf                 model.id=OWNER/NAME model.revision=main: any model of the Hugging Face hub or its cache
  hw=auto|cpu|cuda|…       hw.gpus=4 hw.nodes=2 hw.os=linux hw.memory_gib=64 hw.gpu.memory_gib=24
  engine=auto|vllm|…       engine.version=… engine.build=native engine.args.FLAG=VALUE; engine=external engine.url=…
  workload=smoke|chat|…    workload.concurrency=4 workload.requests=40
  rules=xinference-2024-08 rules.engines.vllm.linux.eq=linux; ~rules.engines.vllm.family switches a rule off
  api_key_env=NAME         the server asks for the key in $NAME (api_key=KEY does too, but ps shows it to everyone)
  dry=true                 of a sweep: what would run and what is refused, how long and how much disk it takes
  resume=all|failed|off    what a sweep keeps of an earlier one: all that was finished, all but failures, nothing
  parity.engines=[vllm,llama_cpp]  parity.tokens=24: who is compared, and on how many tokens of each answer
  choose=measured          of the engines that the rules allow, the fastest one by the records below runs=
  tune=throughput|latency  with -m: look for the engine's best settings; tune.trials=20 tune.minutes=60
                           tune.slo.ttft_p99_ms=500 tune.experiment=NAME keeps them for experiment=NAME
  context_length= port= catalog= runs= home= installer=pip|uv prefer.formats=
"""


def script() -> None:
    """Run as the console script ``xinfer``, and as ``python -m xinfer``."""
    gc.disable()  # most verbs end in a moment and leave no garbage worth a tenth of that moment
    if sys.stdout is None:  # it was closed by whoever started this
        sys.stdout = io.StringIO()
    if sys.stderr is None:
        sys.stderr = io.StringIO()  # print would take None for standard output
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a terminal that has no … gets a ?
    sys.exit(main(sys.argv[1:]))


def main(argv: list[str]) -> int:
    """Run one command line and return its exit code."""
    try:
        code = _answer(argv)
        sys.stdout.flush()
    except XinferError as error:
        show(error)
        return error.exit_code
    except KeyboardInterrupt:
        print("xinfer: interrupted; everything that was started has been stopped", file=sys.stderr)
        return 130
    except BrokenPipeError:
        _drop_output()  # the reader went away, as head does
        return 0
    except OSError as error:
        _drop_output()
        nameless = "the current directory" if isinstance(error, FileNotFoundError) else "the output"
        show(ConfigError(f"{error.filename or nameless} cannot be used: {error.strerror}"))
        return ConfigError.exit_code
    except Exception as error:  # noqa: BLE001 -- nobody but a developer can use a traceback
        return _broken(error)
    return code


def _answer(argv: list[str]) -> int:
    if {"-h", "--help"} & set(argv):
        print(USAGE, end="")
        return 0
    if "--version" in argv:
        print(f"xinfer {__version__}")
        return 0
    return _dispatch(parse(argv))


def _drop_output() -> None:
    """Keep Python from failing once more when it flushes."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _broken(error: Exception) -> int:
    from xinfer.verbs.report import defect  # noqa: PLC0415 -- nothing else here needs it

    found = defect(error)
    show(found)
    return found.exit_code


def show(error: XinferError) -> None:
    """Print an error as its one line, then the details that came with it."""
    from xinfer.verbs.report import one_line  # noqa: PLC0415 -- only errors need it

    print(f"xinfer: {one_line(str(error))}", file=sys.stderr)
    for line in error.details:
        print(f"  {one_line(line)}", file=sys.stderr)


def parse(argv: list[str]) -> Line:
    """Split a command line into verb, flags and overrides; they may come in any order."""
    verb, overrides, directories, paths, key = "", [], [], [], None
    multirun = only_config = False
    rest = iter(argv)
    for word in rest:
        if word in ("-m", "--multirun"):
            multirun = True
        elif word == "--cfg":
            only_config = True
        elif word == "--config-dir" or word.startswith("--config-dir="):
            value = word.partition("=")[2] or next(rest, "")
            if not value:
                raise ConfigError("--config-dir needs a directory")
            directories.append(Path(value).absolute())
        elif verb in TAKING_PATHS and not _NO_PATH.match(word):
            paths.append(Path(word))
        elif "=" in word or word.startswith("~"):
            kept, typed = apikey.take(word)
            overrides.append(kept)
            key = typed or key
        elif word.startswith("-"):
            raise ConfigError(f"there is no flag {word!r}{nearest(word, _FLAGS)}; see --help")
        elif verb or word not in VERBS:
            raise _stray(word, verb)
        else:
            verb = word
    return Line(verb or "run", overrides, directories, multirun, only_config, key, paths)


def _stray(word: str, verb: str) -> ConfigError:
    if word in VERBS:
        return ConfigError(f"{word!r} is a second verb beside {verb!r}; one at a time")
    known = f"verbs are {', '.join(VERBS)}"
    return ConfigError(f"{word!r} is neither a verb nor key=value; {known}{nearest(word, VERBS)}")


def _dispatch(line: Line) -> int:
    from xinfer import engines  # noqa: PLC0415 -- --help must not pay for Hydra
    from xinfer.config.compose import Composer  # noqa: PLC0415
    from xinfer.verbs import unheeded  # noqa: PLC0415

    if line.verb in TAKING_PATHS and (line.multirun or line.only_config):
        raise ConfigError(f"{line.verb} takes paths, and neither -m nor --cfg")
    if line.multirun and line.verb != "run":
        one = f"{line.verb} takes one machine and one model at a time"
        raise ConfigError(f"-m sweeps run; {one} (-m dry=true judges many)")
    if line.multirun and line.only_config:
        raise ConfigError("--cfg prints one configuration, and -m asks for several; leave one of them out")
    unheeded.check(line.verb, line.overrides)
    composer = Composer([*line.directories, *engines.conf_directories()])
    if line.only_config:
        return _config(line, composer)
    return VERBS[line.verb](line, composer)


def _config(line: Line, composer: Composer) -> int:
    import yaml  # noqa: PLC0415

    print(yaml.safe_dump(composer.compose(line.overrides), sort_keys=False, allow_unicode=True), end="")
    return 0


_NO_PATH = re.compile(r"-|[a-z_.]+=")
"""How a flag and a key=value begin; a path that looks like one is written with ./ in front."""
_FLAGS = ("-m", "--multirun", "--config-dir", "--cfg", "--version", "--help")

"""The same targets, guided by coverage: inputs that reach code which none has reached are kept and changed further.

    .venv-fuzz/bin/python tests/fuzz/guided.py --target records [--seconds 60] [--corpus FOLDER]

`make fuzz` installs atheris, which does this (libFuzzer for Python), and runs every target. An input that raises what
is not documented ends the run and is left in a file whose name is printed.
"""

import argparse
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

import atheris

HERE = Path(__file__).resolve()
sys.path[:0] = [str(HERE.parents[2] / "engine"), str(HERE.parents[2] / "cli"), str(HERE.parents[1])]

with atheris.instrument_imports(include=["uniqdb", "uniqdb_cli"]):
    from fuzz.run import SHARES
    from fuzz.targets import target

INPUT_BYTES_MAX = 65_536


def main() -> None:
    """Run one target. libFuzzer ends the process: with 0 when time is up, else not."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--target", choices=SHARES, required=True)
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--corpus", type=Path, help="inputs that were found are kept here, and are where it begins")
    chosen = parser.parse_args()
    with ExitStack() as stack:
        temporary = stack.enter_context(tempfile.TemporaryDirectory(prefix="uniqdb-guided-"))
        work = Path(temporary) / "work"
        work.mkdir()
        fuzzed = stack.enter_context(target(chosen.target, work))
        corpus = chosen.corpus or Path(temporary) / "corpus"
        corpus.mkdir(parents=True, exist_ok=True)
        for number, example in enumerate(fuzzed.examples):
            (corpus / f"example-{number}").write_bytes(example)
        found = Path(tempfile.gettempdir()) / f"uniqdb-fuzz-{chosen.target.replace(' ', '-')}-"
        flags = [f"-max_total_time={chosen.seconds}", f"-max_len={INPUT_BYTES_MAX}", f"-artifact_prefix={found}"]
        atheris.Setup([sys.argv[0], str(corpus), *flags], fuzzed.take)
        atheris.Fuzz()


if __name__ == "__main__":
    main()

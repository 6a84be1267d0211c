"""The same targets, guided by coverage: inputs that reach code which none has reached are kept and changed further.

    .venv-fuzz/bin/python tests/fuzz/guided.py [--target NAME] [--seconds 60] [--corpus FOLDER]

`make fuzz` installs atheris, which does this (libFuzzer for Python), and runs every target. An input that raises what
is not documented ends the run of its target and is left in a file whose name is printed; the exit code is then 1.
"""

import argparse
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

try:
    import atheris
except ImportError:
    sys.exit("guided fuzzing needs atheris, which has no wheel for this Python or system: use tests/fuzz/run.py")

HERE = Path(__file__).resolve()
sys.path[:0] = [str(HERE.parents[2] / "engine"), str(HERE.parents[2] / "cli"), str(HERE.parents[1])]

INPUT_BYTES_MAX = 65_536
OVERTIME_S = 120


def fuzz(name: str, seconds: int, kept: Path | None) -> None:
    """Fuzz one target in this process, which libFuzzer ends: with 0 when time is up, else not."""
    with atheris.instrument_imports(include=["uniqdb", "uniqdb_cli"]):
        from fuzz.targets import target  # noqa: PLC0415 - here it is instrumented
    with ExitStack() as stack:
        temporary = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="uniqdb-guided-")))
        work = temporary / "work"
        work.mkdir()
        chosen = stack.enter_context(target(name, work))
        corpus = kept or temporary / "corpus"
        corpus.mkdir(parents=True, exist_ok=True)
        for number, example in enumerate(chosen.examples):
            (corpus / f"example-{number}").write_bytes(example)
        found = Path(tempfile.gettempdir()) / f"uniqdb-fuzz-{name.replace(' ', '-')}-"
        flags = [f"-max_total_time={seconds}", f"-max_len={INPUT_BYTES_MAX}", f"-artifact_prefix={found}"]
        atheris.Setup([sys.argv[0], str(corpus), *flags], chosen.take)
        atheris.Fuzz()


def fuzz_all(seconds: int) -> int:
    """Each target in a process of its own; 1 if one of them found something, else 0."""
    from fuzz.run import SHARES  # noqa: PLC0415 - not in a process that instruments what this imports

    failed = 0
    for name in SHARES:
        command = [sys.executable, str(HERE), "--target", name, "--seconds", str(seconds)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=seconds + OVERTIME_S, check=False)
        lines = (done.stdout + done.stderr).splitlines()
        ends = [line for line in lines if line.startswith("Done ")]
        print(f"{name}: {ends[-1] if ends and not done.returncode else 'FAILED'}", flush=True)
        if done.returncode:
            failed = 1
            print("\n".join(lines[-60:]), flush=True)
    return failed


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--target", help="the name of one, as `tests/fuzz/run.py --only` takes it")
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--corpus", type=Path, help="inputs that were found are kept here, and are where it begins")
    chosen = parser.parse_args()
    if chosen.target is None:
        return fuzz_all(chosen.seconds)
    fuzz(chosen.target, chosen.seconds, chosen.corpus)
    return 0


if __name__ == "__main__":
    sys.exit(main())

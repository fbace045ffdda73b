"""What a run with checkpoints loses where it is killed at random moments, and what saving costs.

    python benchmarks/kills.py                                        # ackley6, which needs no data
    python benchmarks/kills.py superconductor --kills 10 --interval 5
    python benchmarks/kills.py tfbind8 --preset fast

Every run is the command `botorch-roma propose` in a process of its own: undisturbed without
checkpoints, undisturbed with them, and killed again and again. A killed run lives up to --life
times as long as the first one, drawn uniformly, its start included. Afterwards the tables have to
be the same, byte by byte. Lost with a kill is the time since the last save. A run that is killed
before its first save loses its start: imports, the table, and at most an interval.
"""

from __future__ import annotations

import argparse
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pandas as pd

from botorch_roma.tasks import load_task


def write_table(task_name: str, path: Path) -> list[str]:
    """The visible data of a task as a CSV table; the options that say what is in it."""
    task = load_task(task_name)
    if task.vocabulary is None:
        frame = pd.DataFrame(task.X.numpy()).add_prefix("x")
        options = []
    else:
        frame = pd.DataFrame({"site": task.vocabulary.to_strings(task.X)})
        options = ["--sequence", "site"]
    frame.assign(y=task.Y[:, 0].numpy()).to_csv(path, index=False)
    return options


class Command:
    """`botorch-roma propose` in a folder."""

    def __init__(self, folder: Path, *options: str) -> None:
        self.folder = folder
        table = ["propose", "data.csv", "--objective", "y", "--json", *options]
        self.words = [sys.executable, "-W", "ignore", "-m", "botorch_roma", *table]

    def start(self, output: str, *options: str) -> subprocess.Popen[bytes]:
        words = [*self.words, "--out", output, *options]
        return subprocess.Popen(words, cwd=self.folder, stdout=subprocess.DEVNULL)

    def run(self, output: str, *options: str) -> float:
        """Wall time of an undisturbed run."""
        begun = time.monotonic()
        if self.start(output, *options).wait():
            sys.exit("a run has failed")
        return time.monotonic() - begun


def last_save(folder: Path) -> float:
    return max((f.stat().st_mtime for f in folder.glob("*.checkpoint")), default=0.0)


def kill(command: Command, life: float, options: list[str]) -> tuple[float, float, bool] | None:
    """How long a run has lived, how much of it is lost, whether it had saved; None if it ended."""
    begun, process = time.time(), command.start("killed.csv", *options)
    try:
        process.wait(life)
    except subprocess.TimeoutExpired:
        process.kill()
        dead = time.time()
        process.wait()
        saved = last_save(command.folder / "killed")
        return dead - begun, dead - max(begun, saved), saved > begun
    if process.returncode:
        sys.exit("a run has failed")
    return None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("task", nargs="?", default="ackley6")
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--interval", type=float, default=5.0, help="seconds between saves")
    parser.add_argument("--life", type=float, default=0.3, help="share of an undisturbed run")
    parser.add_argument("--preset", default="default")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    arguments = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    moments = random.Random(arguments.seed)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        options = write_table(arguments.task, folder / "data.csv")
        command = Command(folder, "--preset", arguments.preset, *options)
        saving = ["--checkpoint-interval", str(arguments.interval)]
        whole = command.run("whole.csv")
        saved = command.run("saved.csv", "--checkpoint", "saved", *saving)
        print(f"undisturbed {whole:.1f} s, with checkpoints {saved:.1f} s", flush=True)
        lost, starts, lived = list[float](), list[float](), 0.0
        saving += ["--checkpoint", "killed"]
        while len(lost) + len(starts) < arguments.kills:
            found = kill(command, moments.uniform(0.0, arguments.life * whole), saving)
            if found is None:
                break
            (lost if found[2] else starts).append(found[1])
            lived += found[0]
            what = f"{found[1]:.2f} s of it lost" if found[2] else "before its first save"
            print(f"killed after {found[0]:.1f} s, {what}", flush=True)
        rest = 0.0 if (folder / "killed.csv").exists() else command.run("killed.csv", *saving)
        again = command.run("again.csv", "--checkpoint", "killed")
        tables = {
            n: (folder / f"{n}.csv").read_bytes() for n in ("whole", "saved", "killed", "again")
        }
        same = len(set(tables.values())) == 1
        size = sum(f.stat().st_size for f in (folder / "killed").iterdir()) / 2**20
    print(
        f"{len(lost)} kills at work lost {max(lost, default=0.0):.2f} s at most, {sum(lost):.2f} s "
        f"together, with {arguments.interval:g} s between saves; {len(starts)} at the start "
        f"{sum(starts):.1f} s; {lived + rest:.1f} s in all\n"
        f"the same table: {same}; once more in {again:.1f} s; {size:.1f} MiB of checkpoints"
    )
    sys.exit(not same)


if __name__ == "__main__":
    main()

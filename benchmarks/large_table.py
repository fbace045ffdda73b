"""How much memory a table of many rows takes: mapped from its file, and copied as by default.

    python benchmarks/large_table.py                      # 1,000,000 rows of 86 inputs, float32
    python benchmarks/large_table.py --rows 100000 --repeats 3

The functions' own defaults (the preset `fast`) but for the number of epochs. Every run is a process
of its own. Memory is the peak of the anonymous resident memory over what the process held before
its model was made; pages of the mapped file are not in it, the kernel drops those when it needs
room. Linux only.
"""

from __future__ import annotations

import argparse
import multiprocessing
import statistics
import tempfile
import threading
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.queues import SimpleQueue
from pathlib import Path
from typing import Any

import numpy as np
import torch
from botorch.acquisition import PosteriorMean

from botorch_roma import RoMAModel, fit_roma_model, optimize_acqf_roma

BATCH_SIZE = 128
Q = 128


def anonymous_bytes() -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * int(next(x for x in lines if x.startswith("RssAnon:")).split()[1])


@contextmanager
def peak_over(base: int, peaks: dict[str, float], name: str) -> Iterator[None]:
    """Sample the anonymous memory every 2 ms; the peak over ``base`` goes to ``peaks``, in MiB."""
    done, highest = threading.Event(), anonymous_bytes()

    def sample() -> None:
        nonlocal highest
        while not done.wait(0.002):
            highest = max(highest, anonymous_bytes())

    thread = threading.Thread(target=sample)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
        peaks[name] = (max(highest, anonymous_bytes()) - base) / 2**20


def write_table(folder: Path, rows: int, inputs: int) -> None:
    """``X.npy`` and ``Y.npy``, a chunk of rows at a time."""
    rng = np.random.default_rng(0)
    direction = rng.standard_normal((inputs, 1)).astype(np.float32)
    X = np.lib.format.open_memmap(folder / "X.npy", "w+", np.float32, (rows, inputs))
    Y = np.lib.format.open_memmap(folder / "Y.npy", "w+", np.float32, (rows, 1))
    for i in range(0, rows, 10_000):
        X[i : i + 10_000] = chunk = rng.random((min(10_000, rows - i), inputs), dtype=np.float32)
        Y[i : i + 10_000] = np.sin(chunk @ direction)
    X.flush()
    Y.flush()


def measure(
    folder: str, mapped: bool, epochs: int, updates: int, results: SimpleQueue[dict[str, Any]]
) -> None:
    """Both stages in this process: peaks of memory in MiB and seconds."""
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    X, Y = (torch.from_numpy(np.load(Path(folder, f), mmap_mode="c")) for f in ("X.npy", "Y.npy"))
    fit_roma_model(RoMAModel(X[:64].clone(), Y[:64].clone()), epochs=1, seed=0)  # libraries are up
    peaks: dict[str, float] = {}
    base = anonymous_bytes()
    with peak_over(base, peaks, "model"):
        start = time.perf_counter()
        model = RoMAModel(X, Y, copy=not mapped)
        model_seconds = time.perf_counter() - start
    with peak_over(base, peaks, "stage 1"):
        history = fit_roma_model(model, epochs=epochs, batch_size=BATCH_SIZE, seed=0)
    bounds = torch.tensor([[0.0], [1.0]]).expand(2, X.shape[1])
    with peak_over(base, peaks, "stage 2"):
        start = time.perf_counter()
        candidates, _ = optimize_acqf_roma(PosteriorMean(model), bounds, Q, num_updates=updates)
        stage_2 = time.perf_counter() - start
    batches = epochs * -(-(X.shape[0] - len(history.validation_indices)) // BATCH_SIZE)
    results.put(
        {
            "peaks": peaks,
            "model": model_seconds,
            "per 1,000 minibatches": 1000 * history.seconds[-1] / batches,
            "stage 2": stage_2,
            "checksum": candidates.double().sum().item(),
        }
    )


def run(folder: str, mapped: bool, epochs: int, updates: int) -> dict[str, Any]:
    context = multiprocessing.get_context("spawn")
    results: SimpleQueue[dict[str, Any]] = context.SimpleQueue()
    process = context.Process(target=measure, args=(folder, mapped, epochs, updates, results))
    process.start()
    process.join()
    if process.exitcode != 0:
        raise SystemExit(f"the measured process ended with exit status {process.exitcode}")
    return results.get()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--inputs", type=int, default=86)
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--updates", type=int, default=300)
    parser.add_argument("--repeats", type=int, default=2, help="runs of each kind, in turn")
    parser.add_argument("--copied-only", action="store_true", help="leave the mapped runs out")
    parser.add_argument("--folder", type=Path, help="where the table is written, and taken away")
    arguments = parser.parse_args()
    kinds = ["copied"] if arguments.copied_only else ["copied", "mapped"]
    runs: dict[str, list[dict[str, Any]]] = {kind: [] for kind in kinds}
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        write_table(Path(folder), arguments.rows, arguments.inputs)
        size = Path(folder, "X.npy").stat().st_size / 2**20
        print(
            f"{arguments.rows:,} rows of {arguments.inputs} inputs, float32: file of {size:.0f} "
            f"MiB; torch {torch.__version__}, one thread, {arguments.epochs} epochs, q = {Q}"
        )
        for _ in range(arguments.repeats):
            for kind in kinds:
                runs[kind].append(
                    run(folder, kind == "mapped", arguments.epochs, arguments.updates)
                )
    base = statistics.median(r["per 1,000 minibatches"] for r in runs["copied"])
    for kind, found in runs.items():
        peaks = ", ".join(
            f"{name} {max(r['peaks'][name] for r in found):.0f}" for name in found[0]["peaks"]
        )
        seconds = statistics.median(r["per 1,000 minibatches"] for r in found)
        print(f"{kind}: peak anonymous memory in MiB: {peaks}")
        print(
            f"{'':{len(kind)}}  {seconds:.2f} s per 1,000 minibatches ({seconds / base:.2f} x "
            f"copied), model {statistics.median(r['model'] for r in found):.1f} s, stage 2 "
            f"{statistics.median(r['stage 2'] for r in found):.1f} s; "
            f"sum of candidates {found[0]['checksum']!r}"
        )


if __name__ == "__main__":
    main()

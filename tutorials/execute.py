r"""
Execute the tutorials: cut short into a temporary folder, or at full size in place.

    python tutorials/execute.py                    # what CI does
    python tutorials/execute.py --store quickstart # full size, outputs are kept in the notebook

Outputs are kept without times, versions and paths, so that a notebook changes where its results do.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

HERE = Path(__file__).resolve().parent
NAMES = sorted(path.stem for path in HERE.glob("*/*.ipynb"))
SECONDS_PER_CELL = 600


def execute(name: str, folder: Path) -> str | None:
    """Run one notebook from its own folder and write it to another; the error, or None."""
    start = time.monotonic()
    path = HERE / name / f"{name}.ipynb"
    notebook = nbformat.read(path, as_version=4)
    client = NotebookClient(
        notebook,
        timeout=SECONDS_PER_CELL,
        kernel_name="python3",
        record_timing=False,
        resources={"metadata": {"path": str(path.parent)}},
    )
    error = None
    try:
        client.execute()
    except CellExecutionError as failure:
        error = str(failure)
    except Exception as failure:  # a kernel that died, a cell that took too long
        error = repr(failure)
    print(f"{name}: {'failed' if error else 'done'}, {time.monotonic() - start:.0f} s", flush=True)
    if error is None:
        normalise(notebook)
        nbformat.write(notebook, folder / name / path.name)
    return error


def normalise(notebook: nbformat.NotebookNode) -> None:
    """Keep what a reader sees, and nothing that differs from one run or machine to the next."""
    notebook.metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    for cell in notebook.cells:
        cell.metadata = {k: v for k, v in cell.metadata.items() if k == "tags"}


def main() -> int:
    """Execute all that is asked for, two at a time; the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.strip().splitlines()[0])
    parser.add_argument("names", nargs="*", default=NAMES, metavar="NAME", help=", ".join(NAMES))
    parser.add_argument("--store", action="store_true", help="full size, in place")
    parser.add_argument("--jobs", type=int, default=2, help="how many at a time")
    arguments = parser.parse_args()
    if unknown := sorted({*arguments.names} - {*NAMES}):
        parser.error(f"there is no tutorial {', '.join(unknown)}; there are {', '.join(NAMES)}")
    os.environ.pop("MPLBACKEND", None)  # figures belong into the notebook
    os.environ.pop("SMOKE_TEST", None)
    if not arguments.store:
        os.environ["SMOKE_TEST"] = "1"
    with tempfile.TemporaryDirectory() as temporary, ThreadPoolExecutor(arguments.jobs) as pool:
        folder = HERE if arguments.store else Path(temporary)
        for name in arguments.names:
            (folder / name).mkdir(exist_ok=True)
        errors = [*pool.map(partial(execute, folder=folder), arguments.names)]
    for name, error in zip(arguments.names, errors, strict=True):
        if error is not None:
            print(f"\n{name}.ipynb: {error}", file=sys.stderr)
    return int(any(error is not None for error in errors))


if __name__ == "__main__":
    sys.exit(main())

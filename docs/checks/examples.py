r"""
Run the examples: ``>>>`` in the docstrings of the package, and Python blocks of the pages.

Every docstring and every page starts in an empty folder with small tables, and with the names that
:func:`namespace` makes; the blocks of a page go on from one another. Training and climbing are cut
short: an example has to run, not to be good. Output that stands below an example is compared,
where none stands there nothing is. A block that starts with three backticks and ``py`` (not
``python``) is a sketch, which is highlighted, counted and not run.

    python docs/checks/examples.py [PART OF A NAME ...]
"""

from __future__ import annotations

import contextlib
import copy
import doctest
import importlib
import io
import logging
import os
import pkgutil
import re
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
import torch
from botorch.acquisition import PosteriorMean
from botorch.optim import optimize_acqf

import botorch_roma
import botorch_roma.latent.training
import botorch_roma.training
from botorch_roma import RoMAModel, RoMAOptions, fit_roma_model
from botorch_roma.latent import LatentSpace
from botorch_roma.training import Training

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
NUM_ROWS = 160
BLOCK = re.compile(r"^```(python|py)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def cut_short() -> None:
    """Two epochs and three updates of two steps at most, whatever an example asks for.

    One epoch of the comparison methods, and latent spaces that may lose their start designs.
    """
    check, epochs = RoMAOptions.__post_init__, Training.num_epochs

    def few_updates(self: RoMAOptions) -> None:
        check(self)
        for name, most in (("num_updates", 3), ("num_adaptation_steps", 2)):
            object.__setattr__(self, name, min(getattr(self, name), most))

    RoMAOptions.__post_init__ = few_updates  # type: ignore[method-assign]
    Training.num_epochs = lambda self, n: min(epochs(self, n), 2)  # type: ignore[method-assign]
    botorch_roma.latent.training.DEFAULT_NUM_BATCHES = 40
    for name in ("coms", "ensemble", "mins", "vae"):
        module: Any = importlib.import_module(f"botorch_roma.baselines.{name}")
        module.num_epochs = lambda *args: 1
    LatentSpace.check_designs = lambda self, X: None  # type: ignore[method-assign]


def make_tables() -> dict[str, pd.DataFrame]:
    """Small tables by the names that the pages use for them."""
    rng = np.random.default_rng(0)
    data = pd.DataFrame(rng.random((NUM_ROWS, 4)), columns=["x1", "x2", "x3", "x4"])
    data["x2"] = rng.integers(0, 10, NUM_ROWS)
    strength = (data - data.mean()).pow(2).sum(axis=1)
    codes = rng.permutation(4**8)[:NUM_ROWS]
    sites = ["".join("acgt"[code >> 2 * i & 3] for i in range(8)) for code in codes]
    data.loc[0, ["x1", "x2"]] = [0.5, 3]
    measured = data.assign(activity=-strength, toxicity=0.1 * data["x1"], cost=data["x2"] + 1.0)
    return {
        "data": data.assign(strength=-strength),
        "designs": data.assign(x2=data["x2"] / 9, strength=-strength),
        "dna": pd.DataFrame({"site": sites, "binding": [s.count("a") for s in sites]}),
        "measured": measured.drop(columns=["x3", "x4"]),
    }


def namespace(tables: dict[str, pd.DataFrame], model: RoMAModel) -> dict[str, Any]:
    """What an example may use without saying where it comes from."""
    train_X, train_Y = model.train_X, model.train_Y
    names: dict[str, Any] = {name: getattr(botorch_roma, name) for name in botorch_roma.__all__}
    return names | {
        "Path": Path,
        "PosteriorMean": PosteriorMean,
        "X": train_X[:128],
        "coefficients": torch.tensor([-1.0, -1.0], dtype=torch.double),
        "indices": torch.tensor([0, 1]),
        "rhs": -1.5,
        "record": {
            "task": "ackley6",
            "method": "default",
            "config": "0",
            "seed": 0,
            "version": "0",
        },
        "fit_roma_models": botorch_roma.fit.fit_roma_models,
        "bounds": torch.tensor([[0.0], [1.0]], dtype=torch.double).repeat(1, train_X.shape[1]),
        "df": tables["measured"].copy(),
        "model": copy.deepcopy(model),
        "np": np,
        "optimize_acqf": optimize_acqf,
        "pd": pd,
        "strings": list(tables["dna"]["site"]),
        "test_X": train_X[:5] + 0.01,
        "torch": torch,
        "train_X": train_X.clone(),
        "train_Y": train_Y.clone(),
    }


def ax_names(df: pd.DataFrame) -> dict[str, Any]:
    """What the examples of ``botorch_roma.ax`` may use on top."""
    from ax.api.client import Client

    import botorch_roma.ax as plugin

    real = df[["x1", "x2", "activity"]].astype(float)  # a GP is slow on integers
    experiment = plugin.offline_experiment(real, objective="activity")
    client = Client()
    client.set_experiment(plugin.offline_experiment(real, objective="activity"))
    new = df.tail(5).assign(x1=lambda frame: frame["x1"] / 2)
    names = {name: getattr(plugin, name) for name in plugin.__all__}
    return names | {"client": client, "experiment": experiment, "measured": new}


def make_model() -> RoMAModel:
    """A fitted model of the table that most examples are about."""
    X = torch.rand(NUM_ROWS, 4, dtype=torch.double, generator=torch.Generator().manual_seed(0))
    model = RoMAModel(X, -(X - 0.7).pow(2).sum(dim=1, keepdim=True))
    fit_roma_model(model, seed=0)
    return model


@contextlib.contextmanager
def folder(tables: dict[str, pd.DataFrame]) -> Iterator[None]:
    """A working folder that holds the tables as files."""
    with tempfile.TemporaryDirectory() as path, contextlib.chdir(path):
        for name, table in tables.items():
            table.to_csv(f"{name}.csv", index=False)
        tables["designs"].to_parquet("designs.parquet")
        np.save("X.npy", tables["designs"].drop(columns="strength").to_numpy())
        np.save("Y.npy", tables["designs"]["strength"].to_numpy())
        Path("cache").mkdir()
        yield


class Checker(doctest.OutputChecker):
    """Compares output where some is written down."""

    def check_output(self, want: str, got: str, flags: int) -> bool:
        """Whether the output is as it stands there."""
        return not want or super().check_output(want, got, flags)


def docstrings() -> Iterator[doctest.DocTest]:
    """All docstrings that hold an example."""
    finder = doctest.DocTestFinder(exclude_empty=True)
    for info in pkgutil.walk_packages(botorch_roma.__path__, "botorch_roma."):
        if not info.name.endswith("__main__"):
            yield from (t for t in finder.find(importlib.import_module(info.name)) if t.examples)


def run_docstring(test: doctest.DocTest, names: dict[str, Any]) -> str | None:
    """What is wrong with a docstring; None if nothing is."""
    flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    runner = doctest.DocTestRunner(Checker(), verbose=False, optionflags=flags)
    test.globs = names | {k: v for k, v in test.globs.items() if k not in ("model", "X")}
    text = io.StringIO()
    runner.run(test, out=text.write)
    return text.getvalue() if runner.failures else None


def run_page(page: Path, names: dict[str, Any]) -> str | None:
    """What is wrong with the blocks of a page; None if nothing is."""
    text = page.read_text(encoding="utf-8")
    for match in BLOCK.finditer(text):
        if match[1] == "python":
            first = text[: match.start(2)].count("\n")
            code = compile("\n" * first + match[2], str(page), "exec")
            try:
                with contextlib.redirect_stdout(io.StringIO()):
                    exec(code, names)
            except Exception:
                return traceback.format_exc()
    return None


def main(wanted: list[str]) -> int:
    """Run everything; the exit status."""
    matplotlib.use("Agg")
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    torch.set_num_threads(1)
    cut_short()
    tables, model = make_tables(), make_model()
    work: list[tuple[str, Any, Any]] = [(t.name, run_docstring, t) for t in docstrings()]
    blocks = {page: BLOCK.findall(page.read_text(encoding="utf-8")) for page in PAGES}
    runnable = [page for page in PAGES if any(kind == "python" for kind, _ in blocks[page])]
    work += [(str(page.relative_to(ROOT)), run_page, page) for page in runnable]
    counts = {"passed": 0, "failed": 0}
    for name, run, what in work:
        if wanted and not any(part in name for part in wanted):
            continue
        start = time.monotonic()
        torch.manual_seed(0)
        with folder(tables):
            names = namespace(tables, model)
            if re.search(r"\bax\b", name):
                names |= ax_names(names["df"])
            problem = run(what, names)
        seconds = time.monotonic() - start
        counts["failed" if problem else "passed"] += 1
        if problem or seconds > 5 or wanted:
            print(f"{'FAILED' if problem else 'passed'} {name} ({seconds:.1f} s)", flush=True)
            print(problem or "", end="", flush=True)
    sketches = {p.name: sum(k == "py" for k, _ in b) for p, b in blocks.items()}
    shown = ", ".join(f"{n} in {name}" for name, n in sketches.items() if n)
    print(f"sketches, which are not run: {shown or 'none'}")
    print(f"{counts['passed']} passed, {counts['failed']} failed")
    return int(counts["failed"] > 0 or counts["passed"] == 0)


if __name__ == "__main__":
    os.environ.pop("BOTORCH_ROMA_DATA", None)
    sys.exit(main(sys.argv[1:]))

r"""
Design-Bench 2.0.20, unmodified, on a current Python: opt-in, and asked for by nothing else.

The package was released in 2021 and asks for TensorFlow, deepchem, gym and mujoco-py at import,
for names that numpy has dropped, and for a data server that is gone [Trabucco2022design]_. Without
any of those, ``enable`` imports it for the tasks with an exact or a scikit-learn oracle:

    pip install --no-deps design-bench==2.0.20

What is changed, in the order in which the failures appear, and why:

* ``requests`` is a stand-in while Design-Bench is imported. It would only download, and the
  server has been gone since January 2024: ``direct_download`` and ``google_drive_download`` report
  a failure instead, upon which an oracle is fitted anew; a missing table raises.
* The data folder is one of yours, known before the first of its users is imported. Files are
  copied from there into a working folder, and Design-Bench writes there alone.
* ``deepchem.feat`` is a stand-in: the ChEMBL tasks, which are registered at import, want it.
* ``np.NINF``, ``np.PINF`` and ``np.loads``, which numpy 2 lacks, are there again in the two
  modules of Design-Bench that use them, and ``np.bool``, which numpy 1.24 to 1.26 lack; numpy
  itself is left alone.
* ``gym`` is a stand-in that makes Gymnasium's Hopper-v4 in place of Hopper-v2, with the old
  ``reset`` and the old ``step`` of four values. It draws the start state from numpy's global
  generator, as all of Design-Bench does; gym used one of its own. It needs the extra ``mujoco``.
* ``morphing_agents`` is a stand-in: every exact oracle is imported with those of Ant and DKitty,
  whose policies are gone anyway.
* ``max_features="auto"``, which scikit-learn 1.3 dropped, is ``1.0`` in the registry, which is
  what it meant for forests of regression trees.

The stand-ins leave ``sys.modules`` when the import is done, and every other change is made to
modules of Design-Bench only, so there is nothing to put back.

.. [Trabucco2022design]
    B. Trabucco, X. Geng, A. Kumar, and S. Levine. Design-Bench: Benchmarks for Data-Driven
    Offline Model-Based Optimization. ICML, 2022.
"""

from __future__ import annotations

import atexit
import importlib
import importlib.metadata
import importlib.util
import os
import pickle
import shutil
import sys
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from botorch.exceptions import UnsupportedError

from botorch_roma.tasks.arrays import PathLike, find_file, find_files, resolve_data_dir

VERSION = "2.0.20"
DESIGN_BENCH_VARIABLE = "DESIGN_BENCH_DATA"

_MODULES_OF_OTHERS = (
    "requests",
    "deepchem",
    "deepchem.feat",
    "deepchem.feat.smiles_tokenizer",
    "morphing_agents",
    "morphing_agents.mujoco",
    *(f"morphing_agents.mujoco.{a}" for a in ("ant", "ant.env", "ant.elements")),
    *(f"morphing_agents.mujoco.{a}" for a in ("dkitty", "dkitty.env", "dkitty.elements")),
)


class _Folders:
    """Where Design-Bench reads and where it writes; ``None`` before ``enable``."""

    def __init__(self) -> None:
        self.data_dir: Path | None = None
        self.cache_dir: Path | None = None
        self._temporary: Path | None = None

    def choose(self, data_dir: PathLike | None, cache_dir: PathLike | None) -> None:
        """Take the folders that are named; a temporary one is for the data of one folder only."""
        before = self.data_dir
        if data_dir is not None or before is None:
            chosen = data_dir if data_dir is not None else os.environ.get(DESIGN_BENCH_VARIABLE)
            self.data_dir = resolve_data_dir(chosen or None).resolve()
        if cache_dir is not None:
            self.cache_dir = Path(cache_dir).expanduser().resolve()
        elif self.cache_dir is None and (self._temporary is None or self.data_dir != before):
            self._temporary = Path(tempfile.mkdtemp(prefix="design-bench-"))
            atexit.register(shutil.rmtree, self._temporary, ignore_errors=True)

    @property
    def working_dir(self) -> Path:
        """The folder that Design-Bench takes for its data folder."""
        chosen = self.cache_dir or self._temporary
        assert chosen is not None
        return chosen


_folders = _Folders()


def enable(data_dir: PathLike | None = None, *, cache_dir: PathLike | None = None) -> ModuleType:
    r"""Import Design-Bench 2.0.20 so that it runs; the description of this module says how.

    From then on ``import design_bench`` gives the same module. A second call takes the folders
    that it names, if any, and changes nothing else.

    Args:
        data_dir: Folder of the tables in Design-Bench's layout (``superconductor/``, ...), which
            is only read. Default: the environment variable ``DESIGN_BENCH_DATA``, then
            ``BOTORCH_ROMA_DATA``, then ``~/.cache/botorch_roma``.
        cache_dir: Folder that Design-Bench writes to, e.g. the forests that it fits, to have them
            again in the next process; a folder for each ``data_dir``. Default: a temporary one.

    Returns:
        The package ``design_bench``.

    Raises:
        ModuleNotFoundError: If Design-Bench is not installed.
        UnsupportedError: If another version than 2.0.20 is.
        RuntimeError: If it was imported before, without this function.

    Example, where Design-Bench and its data are there::

        design_bench = enable("~/design_bench_data")
        task = from_design_bench(design_bench.make("TFBind8-Exact-v0"))
    """
    if not is_enabled() and "design_bench" in sys.modules:
        raise RuntimeError(
            "`design_bench` was imported before `enable` could make it fit; call `enable` first, "
            "in a new interpreter."
        )
    enabled = is_enabled()
    location = None if enabled else _find_package()
    _folders.choose(data_dir, cache_dir)
    if location is not None:
        try:
            with _stand_ins():
                _import_package(location)
        except BaseException:
            _forget_package()
            raise
    _disk_resource().DATA_DIR = str(_folders.working_dir)
    return sys.modules["design_bench"]


def is_enabled() -> bool:
    """Whether the package was imported by ``enable``."""
    return getattr(sys.modules.get("design_bench"), "_enabled_by_botorch_roma", False)


def enabled_folders() -> tuple[Path | None, Path | None] | None:
    """The arguments with which another process calls ``enable``; ``None`` if there is no need."""
    return (_folders.data_dir, _folders.cache_dir) if is_enabled() else None


def _find_package() -> Path:
    """Folder of the package, which is not imported for that."""
    spec = importlib.util.find_spec("design_bench")
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError(
            "Design-Bench is not installed; its dependencies cannot be any more, and `enable` does "
            f"without them: pip install --no-deps design-bench=={VERSION}",
            name="design_bench",
        )
    try:
        version = importlib.metadata.version("design-bench")
    except importlib.metadata.PackageNotFoundError:
        version = "unknown"
    if version != VERSION:
        raise UnsupportedError(
            f"`enable` knows Design-Bench {VERSION}, found is version {version}; install it: "
            f"pip install --no-deps design-bench=={VERSION}"
        )
    return Path(spec.submodule_search_locations[0])


def _import_package(location: Path) -> None:
    """Import the package and all that its tasks import later, in place of the stand-ins."""
    _forget_package()  # what an attempt without `enable` has left behind
    # The one module that must be changed before the package, which imports its users, is.
    name = "design_bench.disk_resource"
    spec = importlib.util.spec_from_file_location(name, location / "disk_resource.py")
    assert spec is not None
    assert spec.loader is not None
    resource: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(resource)
    resource.direct_download = resource.google_drive_download = _no_download
    resource.DATA_DIR = str(_folders.working_dir)
    resource.DiskResource.get_data_path = staticmethod(_get_data_path)
    sys.modules[name] = resource
    package: Any = importlib.import_module("design_bench")
    package.disk_resource = resource
    for module in ("datasets.dataset_builder", "oracles.approximate_oracle"):
        vars(importlib.import_module(f"design_bench.{module}"))["np"] = _OldNumpy("numpy")
    importlib.import_module("design_bench.oracles.exact")
    for spec_of_task in package.registry.all():
        options = spec_of_task.oracle_kwargs.get("model_kwargs", {})
        if options.get("max_features") == "auto":
            options["max_features"] = 1.0
    package._enabled_by_botorch_roma = True


def _forget_package() -> None:
    for name in [n for n in sys.modules if n.partition(".")[0] == "design_bench"]:
        del sys.modules[name]


def _disk_resource() -> Any:
    return sys.modules["design_bench.disk_resource"]


def _get_data_path(file_path: str) -> str:
    """Where a file of the data folder is, a copy: Design-Bench overwrites some of its files."""
    source, target = find_file(file_path, _folders.data_dir), _folders.working_dir / file_path
    target.parent.mkdir(parents=True, exist_ok=True)
    # The halves of a table that an oracle is fitted on are written before they are read.
    if source.is_file() and source != target and not source.name.startswith("split-"):
        old, new = target.stat() if target.exists() else None, source.stat()
        if old is None or (old.st_size, old.st_mtime) != (new.st_size, new.st_mtime):
            with tempfile.TemporaryDirectory(dir=target.parent) as scratch:
                # At once, for another process may read it.
                Path(shutil.copy2(source, scratch)).replace(target)
    return str(target)


def _no_download(download_target: str, disk_target: str) -> bool:
    """Report a failure, or raise if it is a table that is missing, and nothing can make it."""
    file = download_target.removeprefix(f"{_disk_resource().SERVER_URL}/")
    if file != download_target and file.endswith(".npy"):
        find_files([file], _folders.data_dir, "the data server of Design-Bench is gone.")
    return False


@contextmanager
def _stand_ins() -> Iterator[None]:
    """Put stand-ins in the place of modules of others, installed or not, for a while."""
    modules = {name: _StandIn(name) for name in _MODULES_OF_OTHERS} | {"gym": _Gym("gym")}
    before = {name: sys.modules.get(name) for name in modules}
    sys.modules.update(modules)
    try:
        yield
    finally:
        for name, module in before.items():
            del sys.modules[name]
            if module is not None:
                sys.modules[name] = module


class _StandIn(ModuleType):
    """A module in which every name is there, as a class that is of no use."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        full_name = f"{self.__name__}.{name}"
        return sys.modules.get(full_name) or type(name, (_Absent,), {"full_name": full_name})


class _Absent:
    """What a stand-in hands out: it can be made, as Design-Bench does at import, but not used."""

    full_name = ""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        pass

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        raise UnsupportedError(
            f"This task of Design-Bench needs {self.full_name}, which `enable` does without; the "
            "tasks with an exact or a scikit-learn oracle run, those of Ant, DKitty and ChEMBL do "
            "not."
        )


class _OldNumpy(ModuleType):
    """Numpy with the names that it had in 2021."""

    NINF, PINF = -np.inf, np.inf
    bool = np.bool_
    loads = staticmethod(pickle.loads)

    def __getattr__(self, name: str) -> Any:
        return getattr(np, name)


class _Gym(ModuleType):
    """The one name of gym that Design-Bench uses."""

    @staticmethod
    def make(name: str) -> _OldHopper:
        """Make the environment of the Hopper task."""
        if name != "Hopper-v2":
            raise UnsupportedError(f"`name` must be 'Hopper-v2', received {name!r}.")
        return _OldHopper()


class _OldHopper:
    """Gymnasium's Hopper-v4 with the methods of gym's Hopper-v2."""

    def __init__(self) -> None:
        try:
            importlib.import_module("mujoco")
            gymnasium = importlib.import_module("gymnasium")
        except ImportError as error:
            raise ImportError(
                f"HopperController-Exact-v0 needs Gymnasium and MuJoCo ({error}); install them: "
                'pip install "botorch-roma[mujoco]"',
                name=error.name,
            ) from error
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that there is a Hopper-v5, which is another task
            self._env: Any = gymnasium.make("Hopper-v4")

    def reset(self) -> Any:
        """Begin an episode; the observation alone."""
        return self._env.reset(seed=int(np.random.randint(2**31 - 1)))[0]

    def step(self, action: Any) -> tuple[Any, np.float64, bool, dict[str, Any]]:
        """Observation, reward, whether the episode has ended in either way, information."""
        observation, reward, terminated, truncated, info = self._env.step(action)
        return observation, np.float64(reward), bool(terminated or truncated), info

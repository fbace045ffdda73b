from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from botorch.exceptions import UnsupportedError

from botorch_roma.tasks import design_bench_compat
from botorch_roma.tasks.design_bench_compat import enable, enabled_folders, is_enabled

needs_design_bench = pytest.mark.skipif(
    importlib.util.find_spec("design_bench") is None,
    reason="needs the package Design-Bench: bash .ci/design-bench",
)
FOREST = "superconductor/superconductor/random_forest.zip"


@pytest.fixture
def tables(design_bench_tables: Path) -> Path:
    return design_bench_tables


@pytest.fixture(autouse=True)
def fresh_folders(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every test chooses its folders anew."""
    monkeypatch.setattr(design_bench_compat, "_folders", design_bench_compat._Folders())


@pytest.fixture
def not_imported(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """As in an interpreter that has not seen Design-Bench."""
    for name in [n for n in sys.modules if n.partition(".")[0] == "design_bench"]:
        monkeypatch.delitem(sys.modules, name)
    yield
    design_bench_compat._forget_package()


def files_of(folder: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


def run_python(code: str, *arguments: object) -> str:
    """Run code in a fresh interpreter in which warnings are errors from a point on."""
    code = f"import botorch, warnings; warnings.simplefilter('error')\n{code}"
    command = [sys.executable, "-c", code, *map(str, arguments)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert not result.stderr
    return result.stdout


class TestRefusals:
    @pytest.fixture
    def other_version(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (tmp_path / "design_bench").mkdir()
        (tmp_path / "design_bench/__init__.py").write_text("raise RuntimeError('imported')")
        info = tmp_path / "design_bench-2.0.12.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(
            "Metadata-Version: 2.1\nName: design-bench\nVersion: 2.0.12\n"
        )
        monkeypatch.syspath_prepend(tmp_path)

    @pytest.mark.usefixtures("not_imported", "other_version")
    def test_another_version(self) -> None:
        with pytest.raises(UnsupportedError, match=r"knows Design-Bench 2\.0\.20, .* 2\.0\.12;"):
            enable()
        assert "design_bench" not in sys.modules

    @pytest.mark.usefixtures("not_imported")
    def test_not_installed(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
        with pytest.raises(
            ModuleNotFoundError, match="pip install --no-deps design-bench=="
        ) as info:
            enable()
        assert info.value.name == "design_bench"

    @pytest.mark.usefixtures("not_imported")
    def test_imported_before(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "design_bench", ModuleType("design_bench"))
        with pytest.raises(RuntimeError, match=r"imported before .*; call `enable` first"):
            enable()
        assert not is_enabled()
        assert enabled_folders() is None


class TestFolders:
    def test_argument_then_variables(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def chosen(data_dir: Path | None) -> Path | None:
            folders = design_bench_compat._Folders()
            folders.choose(data_dir, tmp_path)
            return folders.data_dir

        monkeypatch.setenv("DESIGN_BENCH_DATA", str(tmp_path / "a"))
        monkeypatch.setenv("BOTORCH_ROMA_DATA", str(tmp_path / "b"))
        assert chosen(tmp_path / "c") == tmp_path / "c"
        assert chosen(None) == tmp_path / "a"
        monkeypatch.delenv("DESIGN_BENCH_DATA")
        assert chosen(None) == tmp_path / "b"

    def test_what_is_not_named_stays(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        folders = design_bench_compat._Folders()
        folders.choose(tmp_path / "a", None)
        first = folders.working_dir
        monkeypatch.setenv("DESIGN_BENCH_DATA", str(tmp_path / "b"))
        folders.choose(None, None)
        assert (folders.data_dir, folders.working_dir) == (tmp_path / "a", first)
        # What was fitted on other data is out of reach.
        folders.choose(tmp_path / "b", None)
        assert folders.working_dir != first
        folders.choose(None, tmp_path / "cache")
        assert (folders.data_dir, folders.working_dir) == (tmp_path / "b", tmp_path / "cache")


@needs_design_bench
class TestEnable:
    def test_leaves_nothing_behind(self, tables: Path) -> None:
        run_python(
            """
import sys
import numpy as np
import botorch_roma
compat = "botorch_roma.tasks.design_bench_compat"
assert compat not in sys.modules and "design_bench" not in sys.modules
from botorch_roma.tasks.design_bench_compat import enable, is_enabled
marker = sys.modules["gym"] = object()
before = {name: sys.modules.get(name) for name in sys.modules}
package = enable(sys.argv[1])
import design_bench
assert design_bench is package is enable() and is_enabled()
changed = {n for n, m in before.items() if sys.modules.get(n) is not m}
assert not changed, changed
others = {"requests", "deepchem", "morphing_agents", "tensorflow", "torchvision", "transformers"}
assert not others & set(sys.modules), others & set(sys.modules)
assert not hasattr(np, "NINF") and not hasattr(np, "loads")
assert not any("auto" in repr(spec.oracle_kwargs) for spec in package.registry.all())
from pathlib import Path
assert not (Path(package.__file__).parents[1] / "design_bench_data").exists()
assert len(package.make("ToyDiscrete-Exact-v0").y) > 20
""",
            tables,
        )

    @pytest.mark.usefixtures("not_imported")
    def test_after_an_attempt_without_it(self, tables: Path) -> None:
        with pytest.raises(ModuleNotFoundError):
            __import__("design_bench")
        left = [name for name in sys.modules if name.startswith("design_bench.")]
        assert left
        assert enable(tables).make("ToyContinuous-Exact-v0").dataset_size > 20

    @pytest.mark.usefixtures("not_imported")
    def test_a_failure_is_cleared_away(self, tables: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        with monkeypatch.context() as patch:
            patch.setattr(design_bench_compat, "_MODULES_OF_OTHERS", ("requests",))
            with pytest.raises(ModuleNotFoundError, match="deepchem"):
                enable(tables)
        assert not [n for n in sys.modules if n.partition(".")[0] in ("design_bench", "gym")]
        assert enable(tables).make("ToyContinuous-Exact-v0").dataset_size > 20

    def test_missing_table(self, tmp_path: Path) -> None:
        with pytest.raises(FileNotFoundError) as error:
            enable(tmp_path).make("GFP-RandomForest-v0")
        for part in ("gfp/gfp-x-0.npy", str(tmp_path), "`data_dir`", "nothing is downloaded"):
            assert part in str(error.value)

    @pytest.mark.parametrize("name", ["AntMorphology-Exact-v0", "DKittyMorphology-Exact-v0"])
    def test_what_does_not_run(self, tmp_path: Path, name: str) -> None:
        folder = tmp_path / f"{name.split('M')[0].lower()}_morphology"
        folder.mkdir()
        for kind in "xy":
            np.save(folder / f"{folder.name}-{kind}-0.npy", np.zeros((4, 1), np.float32))
        with pytest.raises(ValueError, match="unable to download trained policy"):
            enable(tmp_path).make(name)

    def test_stand_ins_say_what_they_are(self) -> None:
        absent: Any = design_bench_compat._StandIn("deepchem").CircularFingerprint(size=2)
        with pytest.raises(UnsupportedError, match=r"needs deepchem\.CircularFingerprint, which"):
            absent.featurize("C")


@needs_design_bench
class TestData:
    def test_folder_of_the_data_is_only_read(self, tables: Path) -> None:
        before = files_of(tables)
        task = enable(tables).make("Superconductor-RandomForest-v0", relabel=True)
        assert files_of(tables) == before
        np.testing.assert_array_equal(task.predict(task.x), task.y)

    def test_forests_are_kept_in_the_cache(self, tables: Path, tmp_path: Path) -> None:
        design_bench = enable(tables, cache_dir=tmp_path)
        first = design_bench.make("Superconductor-RandomForest-v0")
        kept = (tmp_path / FOREST).stat().st_mtime_ns
        second = design_bench.make("Superconductor-RandomForest-v0")
        assert (tmp_path / FOREST).stat().st_mtime_ns == kept
        np.testing.assert_array_equal(first.predict(first.x), second.predict(first.x))
        # With a temporary cache the next one is another forest.
        design_bench_compat._folders.__init__()  # type: ignore[misc]
        third = enable(tables).make("Superconductor-RandomForest-v0")
        assert (first.predict(first.x) != third.predict(first.x)).any()

    def test_a_changed_file_is_read_anew(self, tables: Path, tmp_path: Path) -> None:
        data, name = tmp_path / "data", "toy_discrete/toy_discrete-y-0.npy"
        shutil.copytree(tables / "toy_discrete", data / "toy_discrete")
        design_bench = enable(data, cache_dir=tmp_path / "cache")
        assert design_bench.make("ToyDiscrete-Exact-v0").y.min() > -99.0
        y = np.load(data / name)
        np.save(data / name, np.full_like(y, -99.0))
        assert design_bench.make("ToyDiscrete-Exact-v0").y.min() == -99.0

    def test_forest_has_all_features(self, tables: Path) -> None:
        task = enable(tables).make("Superconductor-RandomForest-v0")
        forest = task.oracle.params["model"]
        assert (forest.max_features, forest.n_estimators, forest.max_depth) == (1.0, 100, 100)


@needs_design_bench
def test_hopper(tables: Path) -> None:
    pytest.importorskip("gymnasium")
    pytest.importorskip("mujoco")
    task = enable(tables).make("HopperController-Exact-v0")
    np.random.seed(0)
    first = task.predict(task.x[:2])
    np.random.seed(0)
    np.testing.assert_array_equal(task.predict(task.x[:2]), first)
    assert (first != task.predict(task.x[:2])).all()
    assert (first > 10.0).all()


@needs_design_bench
def test_hopper_without_gymnasium(tables: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mujoco", None)
    task = enable(tables).make("HopperController-Exact-v0")
    with pytest.raises(ImportError, match=r'pip install "botorch-roma\[mujoco\]"'):
        task.predict(task.x[:1])

"""The rules of the house: what is handed out, what imports what, and how long a file may be."""

from __future__ import annotations

import ast
import importlib
import inspect
import json
import re
import subprocess
import sys
import warnings
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path
from types import ModuleType

import pytest

import botorch_roma

ROOT = Path(botorch_roma.__file__).parent
FILES = sorted(ROOT.rglob("*.py"))

#: Data flows down one stair: a room imports from its own floor and those below. The longest name
#: that fits counts.
FLOORS = {
    "_clock": 1,
    "_compat": 1,
    "_options": 7,
    "checkpoint": 1,
    "chunks": 1,
    "columns": 1,
    "conservative": 2,
    "closed_form": 2,
    "files": 1,
    "fingerprint": 1,
    "graphs": 1,
    "history": 1,
    "latent": 1,
    "mapped": 1,
    "network": 1,
    "progress": 1,
    "limits": 1,
    "saved": 3,
    "sealed": 1,
    "interrupt": 1,
    "tasks": 1,
    "validation": 1,
    "baselines": 2,
    "models": 2,
    "perturbation": 2,
    "reference": 2,
    "acquisition": 3,
    "adaptation": 3,
    "calibration": 3,
    "fit": 3,
    "inner_loop": 3,
    "rows": 3,
    "training": 3,
    "optim": 4,
    "page": 5,
    "ax": 5,
    "inputs": 5,
    "presets": 5,
    "proposal": 5,
    "propose": 5,
    "selection": 5,
    "table": 5,
    "": 6,  # botorch_roma itself hands out what lies below
    "benchmark": 6,
    "cli": 7,
    "__main__": 8,
}


def module_name(path: Path) -> str:
    """``botorch_roma.optim.options``; a package is called by its folder."""
    parts = path.relative_to(ROOT.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = [m for m in map(module_name, FILES) if m not in ("botorch_roma", "botorch_roma.__main__")]


def room(module: str) -> str:
    """First name below the package: ``optim`` for ``botorch_roma.optim.options``."""
    return module.partition(".")[2].partition(".")[0]


def floor(module: str) -> int:
    return FLOORS[room(module)]


def imported_modules(path: Path) -> Iterator[str]:
    """Modules of this package that a file imports anywhere, also in its functions."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name}: relative import in line {node.lineno}"
            # `from package import module` imports the module
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        for name in names:
            if name.partition(".")[0] == "botorch_roma":
                yield name if name in MODULES or name == "botorch_roma" else name.rpartition(".")[0]


IMPORTS = {module_name(path): set(imported_modules(path)) for path in FILES}


class TestStair:
    def test_the_graph_was_read(self) -> None:
        assert IMPORTS["botorch_roma.network"] == {"botorch_roma.limits"}
        assert "botorch_roma.models.base" in IMPORTS["botorch_roma.models.roma"]
        assert "botorch_roma.progress" in IMPORTS["botorch_roma.training"]
        assert len(IMPORTS) == len(FILES) > 25

    @pytest.mark.parametrize("module", sorted(IMPORTS))
    def test_a_room_imports_only_from_floors_below(self, module: str) -> None:
        above = [name for name in IMPORTS[module] if floor(name) > floor(module)]
        assert not above, f"{module} is on floor {floor(module)} and imports {above}"

    def test_no_circles(self) -> None:
        # an __init__ that hands out its own files is above them
        graph = {
            module: {name for name in names if name != module and not module.startswith(name + ".")}
            for module, names in IMPORTS.items()
        }
        assert len(list(TopologicalSorter(graph).static_order())) == len(IMPORTS)

    def test_the_lowest_floor_knows_neither_botorch_nor_training(self) -> None:
        for name in ("network", "perturbation", "conservative", "closed_form"):
            source = (ROOT / f"{name}.py").read_text(encoding="utf-8")
            assert not re.search(r"^\s*(from|import) (botorch|gpytorch)\b", source, re.MULTILINE)

    def test_oracles_are_out_of_reach_of_all_that_optimises(self) -> None:
        users = {m for m, names in IMPORTS.items() if any(room(n) == "tasks" for n in names)}
        # the comparison methods work on what `DesignSpace` has taken the oracle from
        assert {room(m) for m in users} <= {"tasks", "baselines", "benchmark", "cli", ""}


class TestImports:
    def run(self, statement: str) -> set[str]:
        """Top-level names of all modules that a fresh interpreter has after a statement."""
        code = f"import json, sys\n{statement}\nprint(json.dumps(sorted(sys.modules)))"
        command = [sys.executable, "-W", "ignore", "-c", code]
        result = subprocess.run(
            command, capture_output=True, text=True, check=True, cwd=ROOT.parent
        )
        return set(json.loads(result.stdout.splitlines()[-1]))

    def test_what_importing_the_package_does_not_import(self) -> None:
        banned = {"ax", "design_bench", "tensorflow", "pandas", "pyarrow"}
        banned |= {"matplotlib", "typer", "sklearn", "rich"}
        with_package = self.run("import botorch, botorch_roma")
        assert "botorch_roma.propose" in with_package
        extra = {name.partition(".")[0] for name in with_package} & banned
        if extra:  # not our doing if a bare botorch brings it along
            extra -= {name.partition(".")[0] for name in self.run("import botorch")}
        assert not extra


class TestPublicNames:
    def test_all_is_complete_and_short(self) -> None:
        names = botorch_roma.__all__
        assert len(set(names)) == len(names)
        assert 15 <= len(names) <= 25
        public = {
            name
            for name, value in vars(botorch_roma).items()
            if not name.startswith("_") and not isinstance(value, ModuleType)
        }
        # `from __future__ import annotations` leaves a name behind
        assert public - {"annotations"} == {name for name in names if not name.startswith("_")}

    def test_the_names_of_the_design(self) -> None:
        designed = {
            "RoMAModel",
            "fit_roma_model",
            "optimize_acqf_roma",
            "gen_candidates_roma",
            "adapt_roma_model",
            "propose",
        }
        assert designed <= set(botorch_roma.__all__)

    @pytest.mark.parametrize("name", botorch_roma.__all__)
    def test_every_name_is_there(self, name: str) -> None:
        assert getattr(botorch_roma, name) is not None

    @pytest.mark.parametrize("package", ["baselines", "latent", "models", "optim", "page", "tasks"])
    def test_all_of_the_rooms(self, package: str) -> None:
        module = importlib.import_module(f"botorch_roma.{package}")
        assert all(hasattr(module, name) for name in module.__all__)

    def test_all_of_ax(self) -> None:
        pytest.importorskip("ax")
        module = importlib.import_module("botorch_roma.ax")
        assert all(hasattr(module, name) for name in module.__all__)

    def test_every_name_has_a_property_test(self) -> None:
        """In a test of hypothesis, or in what such a test of the same file uses."""
        tests = sorted(Path(__file__).parent.rglob("test_*.py"))
        tested = {name for path in tests for name in names_in_property_tests(path)}
        names = {name for path in FILES for name in handed_out(path)}
        assert {"propose", "cma_es", "RoMASurrogate", "write_page"} <= names
        assert sorted(names - tested) == []

    def test_version(self) -> None:
        assert re.fullmatch(r"\d+\.\d+\.\d+(\.dev\d+)?", botorch_roma.__version__)

    def test_typed(self) -> None:
        assert (ROOT / "py.typed").is_file()


def handed_out(path: Path) -> set[str]:
    """What a file has in ``__all__``, but for the version."""
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            return set(ast.literal_eval(node.value)) - {"__version__"}
    return set()


def names_in_property_tests(path: Path) -> set[str]:
    """Names, attributes and keys that a file's property tests use, directly or by its own parts."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    parts: dict[str, ast.AST] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            parts[node.name] = node
    for node in tree.body:
        for target in node.targets if isinstance(node, ast.Assign) else [node]:
            name = getattr(target, "target", target)  # with an annotation or without
            if isinstance(name, ast.Name):
                parts[name.id] = node
    pending = [
        node
        for node in parts.values()
        if isinstance(node, ast.FunctionDef)
        and any(ast.unparse(d).startswith("given(") for d in node.decorator_list)
    ]
    found: set[str] = set()
    while pending:
        for node in ast.walk(pending.pop()):
            names = {getattr(node, key, None) for key in ("id", "attr", "arg")}
            if isinstance(node, ast.Dict):
                names |= {getattr(key, "value", None) for key in node.keys}
            new = {name for name in names if isinstance(name, str)} - found
            found |= new
            pending += [parts[name] for name in new if name in parts]
    return found


def public_definitions(path: Path) -> Iterator[tuple[str, ast.AST]]:
    """Public functions, classes and methods of a file, and the module itself."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    yield "the module", tree
    pending: list[tuple[str, ast.AST]] = [("", tree)]
    while pending:
        prefix, parent = pending.pop()
        for node in ast.iter_child_nodes(parent):
            if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
                yield prefix + node.name, node
                if isinstance(node, ast.ClassDef):
                    pending.append((f"{prefix}{node.name}.", node))


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
class TestFiles:
    def test_length(self, path: Path) -> None:
        assert len(path.read_text(encoding="utf-8").splitlines()) <= 500

    def test_everything_public_is_documented(self, path: Path) -> None:
        missing = [n for n, node in public_definitions(path) if not ast.get_docstring(node)]
        assert not missing, f"no docstring: {missing}"

    def test_everything_public_is_annotated(self, path: Path) -> None:
        for name, node in public_definitions(path):
            if isinstance(node, ast.FunctionDef):
                arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
                bare = [
                    a.arg
                    for a in arguments
                    if a.annotation is None and a.arg not in ("self", "cls")
                ]
                assert not bare, f"{name} has no annotation of {bare}"
                assert node.returns is not None, f"{name} has no annotation of what it returns"

    def test_no_output_but_that_of_the_command_line(self, path: Path) -> None:
        if path.name == "cli.py":
            return
        calls = [n for n in ast.walk(ast.parse(path.read_text("utf-8"))) if isinstance(n, ast.Call)]
        assert not [c.lineno for c in calls if getattr(c.func, "id", None) == "print"]


@pytest.mark.parametrize("name", MODULES)
def test_every_module_can_be_imported(name: str) -> None:
    if room(name) == "ax":
        pytest.importorskip("ax")
        warnings.filterwarnings("ignore", module=r"ax\.")  # Ax warns of its own imports
    try:
        module = importlib.import_module(name)
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] in {"ax", "design_bench"}:
            pytest.skip(f"needs the extra that brings {error.name}")
        raise
    assert inspect.getdoc(module)

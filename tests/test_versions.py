"""What README and bounds say of versions is what the sets that CI tests are made of."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
SETS = {"lowest": ".ci/lowest.txt", "pinned": "constraints.txt", "newest": ".ci/newest.txt"}
#: Extras of which somebody who uses the package, and tests it, has all.
EXTRAS = ("ax", "ax-sql", "chem", "mujoco", "ray", "test")
#: Names in the table of the README.
NAMES = {
    "torch": "torch",
    "BoTorch": "botorch",
    "Ax": "ax-platform",
    "GPyTorch": "gpytorch",
    "NumPy": "numpy",
    "pandas": "pandas",
}


def pins(name: str) -> dict[str, Version]:
    """Every version of a set; a line that is no pin is an error."""
    lines = (ROOT / SETS[name]).read_text("utf-8").splitlines()
    pairs = [line.split("==") for line in lines if line and not line.startswith("#")]
    return {canonicalize_name(package): Version(version) for package, version in pairs}


def python(name: str) -> str:
    """The Python that a set was made with, as its head says."""
    (version,) = re.findall(
        r"^# .*Python:? (\d\.\d+)", (ROOT / SETS[name]).read_text("utf-8"), re.M
    )
    return version


def requirements(*extras: str) -> list[Requirement]:
    """What the package and its extras depend on, other than each other."""
    texts = [*PROJECT["dependencies"]]
    for extra in extras:
        texts += PROJECT["optional-dependencies"][extra]
    return [r for r in map(Requirement, texts) if r.name != PROJECT["name"]]


REQUIREMENTS = requirements(*EXTRAS)
OF_USERS = requirements(*(extra for extra in EXTRAS if extra != "test"))


@pytest.mark.parametrize("name", SETS)
@pytest.mark.parametrize("requirement", REQUIREMENTS, ids=lambda requirement: requirement.name)
def test_every_set_is_within_the_bounds(name: str, requirement: Requirement) -> None:
    assert pins(name)[canonicalize_name(requirement.name)] in requirement.specifier


@pytest.mark.parametrize("requirement", OF_USERS, ids=lambda requirement: requirement.name)
def test_lower_bounds_are_what_is_tested(requirement: Requirement) -> None:
    (bound,) = [s.version for s in requirement.specifier if s.operator == ">="]
    tested = pins("lowest")[canonicalize_name(requirement.name)]
    length = len(Version(bound).release)
    assert tested.release[:length] == Version(bound).release


def test_python() -> None:
    tested = {python(name) for name in SETS}
    prefix = "Programming Language :: Python :: "
    classifiers = [c.removeprefix(prefix) for c in PROJECT["classifiers"] if c.startswith(prefix)]
    assert {c for c in classifiers if "." in c} == tested
    assert PROJECT["requires-python"] == f">={python('lowest')}"


def test_table_of_the_readme() -> None:
    text = (ROOT / "README.md").read_text("utf-8").partition("## Versions\n")[2]
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in text.partition("\n## ")[0].splitlines()
        if line.startswith("|")
    ]
    assert rows[0] == ["", *SETS]
    assert rows[2] == ["Python", *map(python, SETS)]
    expected = [[name, *(str(pins(s)[package]) for s in SETS)] for name, package in NAMES.items()]
    assert rows[3:] == expected

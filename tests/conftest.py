"""Fixtures and settings of all tests; seeds are the business of each test."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

# No window is ever opened, and matplotlib is not imported here to see to that.
os.environ["MPLBACKEND"] = "Agg"

import pytest
import torch
from hypothesis import HealthCheck, settings

# `too_slow` compares data generation with the wall clock, which a loaded machine fails.
settings.register_profile(
    "ci",
    deadline=None,
    derandomize=True,
    max_examples=25,
    suppress_health_check=[HealthCheck.too_slow],
)
# To look for counterexamples by chance: pytest --hypothesis-profile=thorough
settings.register_profile(
    "thorough", settings.get_profile("ci"), derandomize=False, max_examples=500
)
settings.load_profile("ci")

DATA_DIR_VARIABLE = "BOTORCH_ROMA_DATA"
DEFAULT_DATA_DIR = Path(__file__).resolve().parents[2] / "shared/data/design_bench_data"


@pytest.fixture(autouse=True)
def restore_torch_state() -> Iterator[None]:
    """Put the default dtype and the number of threads back after every test."""
    dtype, num_threads = torch.get_default_dtype(), torch.get_num_threads()
    yield
    torch.set_default_dtype(dtype)
    if torch.get_num_threads() != num_threads:
        torch.set_num_threads(num_threads)


@pytest.fixture(scope="session", params=["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def device(request: pytest.FixtureRequest) -> torch.device:
    """Run the test on the CPU, and again on a GPU where there is one."""
    if request.param == "cuda" and not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    return torch.device(request.param)


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """Folder with the data of the real tasks, in the layout of Design-Bench."""
    named = os.environ.get(DATA_DIR_VARIABLE)
    path = Path(named) if named else DEFAULT_DATA_DIR
    if path.is_dir():
        return path
    if named:
        pytest.fail(f"{DATA_DIR_VARIABLE} names {path}, which is no folder", pytrace=False)
    pytest.skip(
        f"needs the data of the real tasks: set {DATA_DIR_VARIABLE} to a folder in the layout of "
        "Design-Bench's design_bench_data"
    )

"""Tables in Design-Bench's layout, small and with made-up values."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest


def write_shards(root: Path, stem: str, num_shards: int, x: np.ndarray, y: np.ndarray) -> None:
    (root / stem).parent.mkdir(parents=True, exist_ok=True)
    y = y.astype(np.float32).reshape(-1, 1)
    for kind, array in (("x", x), ("y", y)):
        for i, shard in enumerate(np.array_split(array, num_shards)):
            np.save(root / f"{stem}-{kind}-{i}.npy", shard)


def write_tables(root: Path) -> Path:
    """Every table of a task that is tested; that of TFBind8 is complete."""
    rng = np.random.default_rng(0)
    letters = 4 ** np.arange(8)
    sequences = (np.arange(4**8)[:, None] // letters % 4).astype(np.uint8)
    y = rng.permutation(len(sequences)) / (len(sequences) - 1)
    write_shards(root, "tf_bind_8-SIX6_REF_R1/tf_bind_8", 1, sequences, y)

    amounts = rng.gamma(0.5, 2.0, size=(400, 6)).astype(np.float32)
    y = 20.0 * amounts[:, 0] + amounts[:, 1] + rng.uniform(size=400)
    write_shards(root, "superconductor/superconductor", 5, amounts, y)

    tokens = rng.integers(4, size=(60, 3)).astype(np.int32)
    write_shards(root, "toy_discrete/toy_discrete", 14, tokens, -np.square(tokens).sum(axis=1))
    designs = rng.normal(size=(60, 3)).astype(np.float32)
    write_shards(
        root, "toy_continuous/toy_continuous", 14, designs, -np.square(designs - 0.5).sum(axis=1)
    )

    proteins = rng.integers(20, size=(120, 5)).astype(np.int32)
    write_shards(root, "gfp/gfp", 12, proteins, proteins.sum(axis=1))

    policies = 0.01 * rng.normal(size=(4, 5_126)).astype(np.float32)
    write_shards(root, "hopper_controller/hopper_controller", 1, policies, np.arange(4))
    return root


@pytest.fixture(scope="session")
def design_bench_tables(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of small tables with made-up values; tests must leave it as it is."""
    return write_tables(tmp_path_factory.mktemp("tables"))

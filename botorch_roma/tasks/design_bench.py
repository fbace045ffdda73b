r"""
The tasks of Design-Bench from arrays in its layout [Trabucco2022design]_.

The arrays are read as they are: neither Design-Bench nor TensorFlow is imported, and nothing is
downloaded. All tasks follow version 2 of the benchmark: the visible rows are those up to a
percentile of ``y``, the full table is behind the oracle alone.

.. [Trabucco2022design]
    B. Trabucco, X. Geng, A. Kumar, and S. Levine. Design-Bench: Benchmarks for Data-Driven
    Offline Model-Based Optimization. ICML, 2022.
"""

from __future__ import annotations

import torch

from botorch_roma.latent.vocabulary import Vocabulary
from botorch_roma.tasks.arrays import FULL_RANGES, Edition, PathLike, read_table, split_table
from botorch_roma.tasks.offline_task import OfflineTask
from botorch_roma.tasks.oracles import ForestOracle, TableOracle

DNA = Vocabulary("acgt")

_FOREST_NOTE = "The oracle is a random forest, fitted anew with the published settings."

# Rows of the full table, then what its visible part must be.
TFBIND8_EDITIONS = {65_792: Edition(32_898, 0.43930)}
SUPERCONDUCTOR_EDITIONS = {
    22_404: Edition(
        17_926,
        72.5,
        "The table is rebuilt from SuperCon with the published cleaning rules; the original one "
        f"has 21,263 rows, best visible 74.0 K. {_FOREST_NOTE}",
    ),
    21_263: Edition(17_010, 74.0, _FOREST_NOTE),
}

TFBIND8_SOURCE = (
    "Barrera et al., Science 351:1450, 2016: E-scores of SIX6_REF_R1, scaled to 0..1; "
    "Design-Bench (Trabucco et al. 2022, MIT)."
)
SUPERCONDUCTOR_SOURCE = (
    "SuperCon, NIMS (CC BY 4.0); cleaning rules of Hamidieh, Comput. Mater. Sci. 154:346, 2018; "
    "Design-Bench (Trabucco et al. 2022, MIT)."
)


def load_tfbind8(
    data_dir: PathLike | None = None,
    *,
    dtype: torch.dtype = torch.double,
    verify_checksums: bool = True,
) -> OfflineTask:
    r"""TFBind8: DNA sequences of length 8, their binding to the transcription factor SIX6.

    The visible rows are the 32,898 with ``y`` up to the 50th percentile (best 0.43930), of 65,792
    rows in all: the 256 sequences that are their own reverse complement stand twice in it. The
    oracle is exact, a look-up in the full table. Letters a, c, g, t are the tokens 0 to 3.

    Args:
        data_dir: Folder that holds ``tf_bind_8-SIX6_REF_R1/``. Default: the environment variable
            ``BOTORCH_ROMA_DATA``, then ``~/.cache/botorch_roma``.
        dtype: Floating point dtype of the task. Default: ``torch.double``.
        verify_checksums: Whether the files must be the known ones, byte for byte. Default: True.

    Returns:
        The task; ``y`` is an E-score scaled to 0..1.

    Raises:
        FileNotFoundError: If a file is missing.
        ValueError: If a file is damaged or another one than expected.
    """
    stem = "tf_bind_8-SIX6_REF_R1/tf_bind_8"
    x, y = read_table(stem, data_dir, TFBIND8_SOURCE, verify_checksums)
    visible, edition = split_table(y, 50, TFBIND8_EDITIONS, "tfbind8")
    tokens = torch.from_numpy(x)
    values = torch.from_numpy(y).to(dtype)
    return OfflineTask(
        name="tfbind8",
        X=tokens[visible].to(dtype),
        Y=values[visible].unsqueeze(-1),
        vocabulary=DNA,
        oracle=TableOracle(tokens, values),
        ranges={"full": FULL_RANGES[stem]},
        description=(
            "Binding of DNA sequences of length 8 to SIX6 (E-score, scaled to 0..1); visible up "
            "to the 50th percentile, exact oracle."
        ),
        substitute=edition.substitute,
        provenance=TFBIND8_SOURCE,
    )


def load_superconductor(
    data_dir: PathLike | None = None,
    *,
    dtype: torch.dtype = torch.double,
    verify_checksums: bool = True,
    n_jobs: int = 1,
) -> OfflineTask:
    r"""Superconductor: amounts of 86 elements, critical temperature in kelvin. A SUBSTITUTE.

    The visible rows are those with ``y`` up to the 80th percentile: 17,926 of 22,404 rows, best
    72.5. The original table (21,263 rows, best visible 74.0) has other checksums and is read with
    ``verify_checksums=False``; its row count tells it apart. The oracle is a ``ForestOracle`` on
    the full table. Elements in no row are constant columns, see ``OfflineTask.fixed_features``.

    Args:
        data_dir: Folder that holds ``superconductor/``. Default: the environment variable
            ``BOTORCH_ROMA_DATA``, then ``~/.cache/botorch_roma``.
        dtype: Floating point dtype of the task. Default: ``torch.double``.
        verify_checksums: Whether the files must be the known ones, byte for byte. Default: True.
        n_jobs: Processes of the oracle. Default: 1.

    Returns:
        The task, bounded by the smallest box around its visible rows.

    Raises:
        FileNotFoundError: If a file is missing.
        ValueError: If a file is damaged or another one than expected.
    """
    stem = "superconductor/superconductor"
    x, y = read_table(stem, data_dir, SUPERCONDUCTOR_SOURCE, verify_checksums)
    visible, edition = split_table(y, 80, SUPERCONDUCTOR_EDITIONS, "superconductor")
    X = torch.from_numpy(x[visible]).to(dtype)
    return OfflineTask(
        name="superconductor",
        X=X,
        Y=torch.from_numpy(y[visible]).to(dtype).unsqueeze(-1),
        bounds=torch.stack([X.amin(dim=0), X.amax(dim=0)]),
        oracle=ForestOracle(x, y, n_jobs=n_jobs),
        ranges={"full": FULL_RANGES[stem]},
        description=(
            "Critical temperature (K) of a composition of 86 elements; measured values up to the "
            "80th percentile are visible, random forest oracle."
        ),
        substitute=edition.substitute,
        provenance=SUPERCONDUCTOR_SOURCE,
    )

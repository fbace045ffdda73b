r"""
The longer sequences of Design-Bench: UTR, GFP and TFBind10 [Trabucco2022design]_.

The arrays are read as they are, nothing is downloaded. UTR and GFP have no exact oracle, and the
weights of Design-Bench's networks are gone: theirs are trained anew, on the full table, when they
are first asked. ``print(train_oracle(task))`` trains them beforehand and says how good they are on
rows that they were not trained on. One run each, seed 0, on one core:

====  =======================  ================  =====  ==============
task  held-out, training rows  rank correlation  R2     processor time
====  =======================  ================  =====  ==============
utr   20,000 / 260,000         0.907             0.877  182 s
gfp   5,000 / 46,715           0.875             0.959  40 s
====  =======================  ================  =====  ==============

.. [Trabucco2022design]
    B. Trabucco, X. Geng, A. Kumar, and S. Levine. Design-Bench: Benchmarks for Data-Driven
    Offline Model-Based Optimization. ICML, 2022.
"""

from __future__ import annotations

import warnings
from typing import NamedTuple

import numpy as np
import torch
from botorch.exceptions import InputDataWarning
from torch import Tensor

from botorch_roma.latent.vocabulary import Vocabulary
from botorch_roma.tasks.arrays import (
    FULL_RANGES,
    Array,
    Edition,
    PathLike,
    read_table,
    sample_rows,
    split_table,
)
from botorch_roma.tasks.design_bench import DNA
from botorch_roma.tasks.offline_task import OfflineTask
from botorch_roma.tasks.oracle_networks import OracleSettings
from botorch_roma.tasks.oracles import TableOracle
from botorch_roma.tasks.trained_oracle import TrainedOracle

AMINO_ACIDS = Vocabulary("arndcqeghilkmfpstwyv")

GFP_ROWS = 5_000

UTR_ORACLE = OracleSettings("convolution", features=32, width=64, num_held_out=20_000)
GFP_ORACLE = OracleSettings(
    "epistasis",
    features=8,
    width=32,
    num_networks=3,
    epochs=10,
    learning_rate=1e-2,
    weight_decay=0.1,
)

_NETWORK_NOTE = (
    "The oracle is a network trained anew on the full table: the weights of Design-Bench's own are "
    "not available."
)

# Rows of the full table, then what its visible part must be, before rows are drawn from it.
UTR_EDITIONS = {
    280_000: Edition(140_000, 7.12314, f"The values are the original ones. {_NETWORK_NOTE}")
}
GFP_EDITIONS = {
    51_715: Edition(
        5_172,
        3.48825,
        "The table is rebuilt from the data of the same study; the original one has 56,086 rows. "
        f"{_NETWORK_NOTE}",
    ),
    56_086: Edition(None, None, _NETWORK_NOTE),
}

UTR_SOURCE = (
    "Sample et al., Nat. Biotechnol. 37:803, 2019 (GEO GSM3130435): mean ribosome load; "
    "Design-Bench (Trabucco et al. 2022, MIT)."
)
GFP_SOURCE = (
    "Sarkisyan et al., Nature 533:397, 2016 (figshare 3102154, CC BY 4.0): median brightness; "
    "Design-Bench (Trabucco et al. 2022, MIT)."
)
TFBIND10_SOURCE = (
    "Le et al., PNAS 115:E3702, 2018: ddG of binding to Pho4; Design-Bench (Trabucco et al. 2022, "
    "MIT), folder tf_bind_10-pho4 with tf_bind_10-x-0.npy to tf_bind_10-x-83.npy and "
    "tf_bind_10-y-0.npy to tf_bind_10-y-83.npy."
)


def load_utr(
    data_dir: PathLike | None = None,
    *,
    dtype: torch.dtype = torch.double,
    verify_checksums: bool = True,
    cache_dir: PathLike | None = None,
    oracle_settings: OracleSettings = UTR_ORACLE,
) -> OfflineTask:
    r"""UTR: 50 DNA letters before a gene, the mean load of ribosomes on it. A SUBSTITUTE oracle.

    The visible rows are the 140,000 with ``y`` up to the 50th percentile (best 7.1231), of
    280,000 in all. Letters a, c, g, t are the tokens 0 to 3. The oracle is a ``TrainedOracle``,
    a convolutional network.

    Args:
        data_dir: Folder that holds ``utr/``. Default: the environment variable
            ``BOTORCH_ROMA_DATA``, then ``~/.cache/botorch_roma``.
        dtype: Floating point dtype of the task. Default: ``torch.double``.
        verify_checksums: Whether the files must be the known ones, byte for byte. Default: True.
        cache_dir: Folder in which the trained oracle is kept. Default: the environment variable
            ``BOTORCH_ROMA_CACHE``, then ``~/.cache/botorch_roma``.
        oracle_settings: Network and training of the oracle; others make another oracle, with
            a file of its own.

    Returns:
        The task; ``y`` is a mean number of ribosomes, its oracle not yet trained.

    Raises:
        FileNotFoundError: If a file is missing.
        ValueError: If a file is damaged or another one than expected.
    """
    x, y = read_table("utr/utr", data_dir, UTR_SOURCE, verify_checksums)
    visible, edition = split_table(y, 50, UTR_EDITIONS, "utr")
    X, Y = _rows(x, y, visible, dtype)
    return OfflineTask(
        name="utr",
        X=X,
        Y=Y,
        vocabulary=DNA,
        oracle=TrainedOracle(
            "utr", x, y, num_classes=4, settings=oracle_settings, cache_dir=cache_dir
        ),
        ranges={"full": FULL_RANGES["utr/utr"]},
        description=(
            "Mean ribosome load of 50 DNA letters before a gene; visible up to the 50th "
            "percentile, trained oracle."
        ),
        substitute=edition.substitute,
        provenance=UTR_SOURCE,
    )


def load_gfp(
    data_dir: PathLike | None = None,
    *,
    dtype: torch.dtype = torch.double,
    verify_checksums: bool = True,
    seed: int = 0,
    cache_dir: PathLike | None = None,
    oracle_settings: OracleSettings = GFP_ORACLE,
) -> OfflineTask:
    r"""GFP: proteins of 237 amino acids, their brightness. A SUBSTITUTE, table and oracle.

    The visible rows are 5,000 of the 5,172 with ``y`` from the 50th to the 60th percentile (best
    3.4882), of 51,715 in all. Design-Bench draws them uniformly without replacement, others in
    every process; here the draw is that of ``seed``, and the rows stay in the order of the table.
    Letters a, r, n, d, c, q, e, g, h, i, l, k, m, f, p, s, t, w, y, v are the tokens 0 to 19.

    The original table (56,086 rows) has other checksums and is read with
    ``verify_checksums=False``; its row count tells it apart. The oracle is a ``TrainedOracle``,
    latent effects of single mutations behind a small network.

    Args:
        data_dir: Folder that holds ``gfp/``. Default: the environment variable
            ``BOTORCH_ROMA_DATA``, then ``~/.cache/botorch_roma``.
        dtype: Floating point dtype of the task. Default: ``torch.double``.
        verify_checksums: Whether the files must be the known ones, byte for byte. Default: True.
        seed: Seed of the draw of the visible rows. Default: 0.
        cache_dir: Folder in which the trained oracle is kept. Default: the environment variable
            ``BOTORCH_ROMA_CACHE``, then ``~/.cache/botorch_roma``.
        oracle_settings: Networks and training of the oracle; others make another oracle, with
            a file of its own.

    Returns:
        The task; ``y`` is the decadic logarithm of a brightness, its oracle not yet trained.

    Raises:
        FileNotFoundError: If a file is missing.
        ValueError: If a file is damaged or another one than expected.
    """
    x, y = read_table("gfp/gfp", data_dir, GFP_SOURCE, verify_checksums)
    window, edition = split_table(y, 60, GFP_EDITIONS, "gfp", min_percentile=50)
    X, Y = _rows(x, y, sample_rows(window, GFP_ROWS, seed), dtype)
    return OfflineTask(
        name="gfp",
        X=X,
        Y=Y,
        vocabulary=AMINO_ACIDS,
        oracle=TrainedOracle(
            "gfp", x, y, num_classes=20, settings=oracle_settings, cache_dir=cache_dir
        ),
        ranges={"full": FULL_RANGES["gfp/gfp"]},
        description=(
            "Brightness of variants of a green fluorescent protein, 237 amino acids; 5,000 rows "
            "between the 50th and the 60th percentile are visible, trained oracle."
        ),
        substitute=edition.substitute,
        provenance=GFP_SOURCE,
    )


class TableLayout(NamedTuple):
    """What a table without known checksums must look like."""

    num_shards: int
    rows_per_shard: int
    visible_rows: int
    low: float
    high: float


TFBIND10_LAYOUT = TableLayout(84, 100_000, 4_161_482, *FULL_RANGES["tf_bind_10-pho4/tf_bind_10"])


def load_tfbind10(
    data_dir: PathLike | None = None,
    *,
    dtype: torch.dtype = torch.double,
    max_rows: int | None = None,
    seed: int = 0,
) -> OfflineTask:
    r"""TFBind10: 10 DNA letters around the motif of the transcription factor Pho4.

    The visible rows are the 4,161,482 with ``y`` up to the 50th percentile, of over 8 million:
    every sequence was measured up to four times, and every row stands once more for the
    complement of its sequence. Rows of one sequence disagree. The oracle looks a sequence up and
    answers, as Design-Bench's, with its last row; with the lowest value of the table where there
    is none. So a visible row does not have the value that the oracle gives its sequence.
    Letters a, c, g, t are the tokens 0 to 3.

    No checksums of these files are known: what is checked is that all 84 shards are there and
    full, the range of the values, and the number of visible rows.

    Args:
        data_dir: Folder that holds ``tf_bind_10-pho4/``. Default: the environment variable
            ``BOTORCH_ROMA_DATA``, then ``~/.cache/botorch_roma``.
        dtype: Floating point dtype of the task. Default: ``torch.double``.
        max_rows: Visible rows that are kept, drawn uniformly; many studies keep 10,000 to 50,000.
            Default: all.
        seed: Seed of that draw. Default: 0.

    Returns:
        The task; ``y`` is a change of the free energy of binding, maximised as it stands.

    Raises:
        FileNotFoundError: If a file is missing.
        ValueError: If a file is damaged or another one than expected.
    """
    layout = TFBIND10_LAYOUT
    x, y = read_table(
        "tf_bind_10-pho4/tf_bind_10",
        data_dir,
        TFBIND10_SOURCE,
        num_shards=layout.num_shards,
    )
    visible = _check_layout(y, layout, "tfbind10")
    oracle = TableOracle(
        torch.from_numpy(x), torch.from_numpy(y), last_wins=True, missing=float(y.min())
    )
    if oracle.num_missing > 0:
        warnings.warn(
            f"{oracle.num_missing:,} sequences of task 'tfbind10' are in no row of the table; the "
            f"oracle gives them its lowest value, {y.min():g}.",
            InputDataWarning,
            stacklevel=2,
        )
    X, Y = _rows(x, y, sample_rows(visible, max_rows, seed), dtype)
    return OfflineTask(
        name="tfbind10",
        X=X,
        Y=Y,
        vocabulary=DNA,
        oracle=oracle,
        ranges={"full": (layout.low, layout.high)},
        description=(
            "Binding of Pho4 to its motif among 10 DNA letters (ddG); visible up to the 50th "
            "percentile, look-up oracle."
        ),
        provenance=TFBIND10_SOURCE,
    )


def _rows(x: Array, y: Array, kept: Array, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    Y = torch.from_numpy(y[kept]).to(dtype).unsqueeze(-1)
    return torch.from_numpy(x[kept]).to(dtype), Y


def _check_layout(y: Array, layout: TableLayout, name: str) -> Array:
    """Rows up to the median, or ``ValueError`` for a table that is incomplete or another one."""
    visible: Array = y <= np.percentile(y, 50)
    most = layout.num_shards * layout.rows_per_shard
    found = (float(y.min()), float(y.max()))
    if (
        not most - layout.rows_per_shard < len(y) <= most
        or int(visible.sum()) != layout.visible_rows
        or not np.allclose(found, (layout.low, layout.high), rtol=0.0, atol=1e-5)
    ):
        raise ValueError(
            f"`data_dir`: the table of task {name!r} has {len(y):,} rows from {found[0]:g} to "
            f"{found[1]:g}, {int(visible.sum()):,} of them visible; expected are at most {most:,} "
            f"rows in {layout.num_shards} shards of {layout.rows_per_shard:,}, from {layout.low:g} "
            f"to {layout.high:g}, {layout.visible_rows:,} of them visible. Fetch the files anew."
        )
    return visible

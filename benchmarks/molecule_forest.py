"""How far the oracle of the Molecule task can be trusted.

    python benchmarks/molecule_forest.py

Fits three forests on the measured activity: the oracle, one with another seed, and one on 80 % of
the molecules. Takes some minutes; the data are found as ``load_molecule`` finds them.
"""

from __future__ import annotations

import numpy as np
from scipy.stats import spearmanr
from sklearn.metrics import average_precision_score, roc_auc_score

from botorch_roma.tasks.activity_forest import fit_forest, forest_scores
from botorch_roma.tasks.arrays import Array
from botorch_roma.tasks.chemistry import fingerprints
from botorch_roma.tasks.molecule import GSK3_FILE, GSK3_SOURCE, PERCENTILE
from botorch_roma.tasks.molecule_table import merge_molecules, parse_activity, read_lines

SEED = 1


def read_molecules() -> tuple[Array, Array]:
    """Fingerprints and measured activity of the molecules that the oracle is trained on."""
    lines, _ = read_lines(GSK3_FILE, None, GSK3_SOURCE, verify=True)
    texts, measured = parse_activity(lines, "gsk3", GSK3_FILE)
    labels = {s: {measured[i] for i in rows} for s, rows in merge_molecules(texts)[0].items()}
    smiles = [text for text, found in labels.items() if len(found) == 1]
    return fingerprints(smiles), np.array([labels[text] == {1} for text in smiles], dtype=np.int64)


def show(name: str, value: object) -> None:
    print(f"{name:<58}{value}")


def main() -> None:
    bits, active = read_molecules()
    rows = np.arange(len(bits))
    show("molecules, active", f"{len(bits):,}, {active.sum():,}")

    forest = fit_forest(bits, active)
    score = forest_scores(forest, bits, rows)
    trained = forest_scores(forest, bits, np.full(len(bits), -1))
    for name, found in (("out of bag", score), ("on its own rows", trained)):
        show(f"ROC-AUC {name}", f"{roc_auc_score(active, found):.4f}")
        show(f"average precision {name}", f"{average_precision_score(active, found):.4f}")
    show("rank correlation, out of bag and on its own rows", f"{spearmanr(score, trained)[0]:.3f}")

    visible = score <= np.percentile(score, PERCENTILE)
    levels = (0, 0.05, 0.25, 0.5, 0.75, 0.8, 0.9, 0.95, 0.99, 1)
    for level, value in zip(levels, np.quantile(score, levels), strict=True):
        show(f"score, quantile {level:g}", f"{value:.4f}")
    show("best visible score", f"{score[visible].max():.4f}")
    show("active among the visible", f"{active[visible].mean():.4f}")
    show("active among the hidden", f"{active[~visible].mean():.4f}")
    show("scores above 0.5", f"{(score > 0.5).mean():.4f}")

    other = forest_scores(fit_forest(bits, active, seed=SEED), bits, rows)
    show("rank correlation with another seed, all", f"{spearmanr(score, other)[0]:.3f}")
    within = spearmanr(score[visible], other[visible])[0]
    show("rank correlation with another seed, visible", f"{within:.3f}")

    order = np.random.default_rng(SEED).permutation(len(bits))
    held_out, used = np.split(order, [len(bits) // 5])
    new = np.full(len(held_out), -1)
    found = forest_scores(fit_forest(bits[used], active[used]), bits[held_out], new)
    show("held-out fifth: ROC-AUC", f"{roc_auc_score(active[held_out], found):.4f}")
    precision = average_precision_score(active[held_out], found)
    show("held-out fifth: average precision", f"{precision:.4f}")
    rank = spearmanr(found, score[held_out])[0]
    show("held-out fifth: rank correlation with the oracle", f"{rank:.3f}")


if __name__ == "__main__":
    main()

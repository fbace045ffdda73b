r"""
Molecules that shall inhibit a kinase: a substitute for the Molecule task of the RoMA paper.

The designs are measured molecules as SELFIES tokens. Their activity against GSK3-beta is known as
yes or no; the score is what a random forest on all these measurements predicts
[Jin2020rationales]_. Two further oracles need no training: drug-likeness [Bickerton2012qed]_ and
penalised logP [Jin2018junction]_, on molecules of ZINC.

.. [Bickerton2012qed]
    G. R. Bickerton, G. V. Paolini, J. Besnard, S. Muresan, and A. L. Hopkins. Quantifying the
    chemical beauty of drugs. Nature Chemistry 4:90, 2012.
.. [Jin2018junction]
    W. Jin, R. Barzilay, and T. Jaakkola. Junction Tree Variational Autoencoder for Molecular
    Graph Generation. ICML, 2018.
.. [Jin2020rationales]
    W. Jin, R. Barzilay, and T. Jaakkola. Multi-Objective Molecule Generation using Interpretable
    Substructures. ICML, 2020.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from importlib.metadata import version
from typing import Any

import numpy as np
import torch
from torch import Tensor

from botorch_roma.latent.vocabulary import Vocabulary
from botorch_roma.tasks import activity_forest
from botorch_roma.tasks.activity_forest import ActivityScore, Forest, fit_forest
from botorch_roma.tasks.arrays import Array, PathLike
from botorch_roma.tasks.cache import cached_arrays
from botorch_roma.tasks.chemistry import (
    FINGERPRINT_BITS,
    FINGERPRINT_RADIUS,
    canonical_tokens,
    fingerprints,
    import_chemistry,
    random_tokens,
    to_smiles,
)
from botorch_roma.tasks.molecule_table import (
    MAX_LENGTH,
    MIN_MOLECULES,
    Designs,
    make_designs,
    merge_molecules,
    parse_activity,
    read_lines,
)
from botorch_roma.tasks.offline_task import OfflineTask
from botorch_roma.validation import check_choice, check_int

PERCENTILE = 80

GSK3_FILE = "molecules/gsk3_activity.csv.gz"
ZINC_FILE = "molecules/zinc_smiles.txt.gz"

GSK3_SOURCE = (
    "Activity against GSK3-beta (1 active, 0 inactive) as prepared for Jin, Barzilay and Jaakkola, "
    "ICML 2020, from ExCAPE-DB (Sun et al., J. Cheminform. 9:17, 2017), which gathers PubChem and "
    "ChEMBL (CC BY-SA 3.0). A gzip-compressed table with the header smiles,gsk3."
)
ZINC_SOURCE = (
    "Validation and test part of the ZINC 250k set of Jin, Barzilay and Jaakkola, ICML 2018 (MIT); "
    "molecules of ZINC (Sterling and Irwin, J. Chem. Inf. Model. 55:2324, 2015). A gzip-compressed "
    "text, one SMILES a line."
)

_NOTE = "The data and the oracle of the paper's Molecule task cannot be had; this is another task: "

Score = Callable[[Sequence[str]], Array]


def load_molecule(
    data_dir: PathLike | None = None,
    *,
    oracle: str = "gsk3",
    dtype: torch.dtype = torch.double,
    verify_checksums: bool = True,
    use_cache: bool = True,
    n_jobs: int = 1,
) -> OfflineTask:
    r"""Molecule: SELFIES of molecules, their score as a drug. A SUBSTITUTE.

    With ``oracle="gsk3"`` the score is the probability of activity against GSK3-beta that a random
    forest predicts, see ``ActivityScore``; the molecules are those whose activity was measured.
    With ``"qed"`` it is drug-likeness (0..1), with ``"penalized_logp"`` logP minus synthetic
    accessibility minus the atoms beyond six of the largest ring, both computed exactly, on
    molecules of ZINC. The visible rows are those up to the 80th percentile of the score. The
    oracle gives a molecule of the table the score that it has there.

    A design is a row of 62 tokens. A sequence that holds no atom is the empty molecule, which gets
    the lowest score of the table. ``to_smiles`` and ``from_smiles`` translate, ``num_molecules``
    counts what is different: many sequences are the same molecule.

    The first load takes some minutes, most of them for the forest and for SELFIES. The table with
    its scores and the forest are kept in ``BOTORCH_ROMA_CACHE``, else ``~/.cache/botorch_roma``,
    under a name made from the checksum of the data, the versions of RDKit, SELFIES and
    scikit-learn, and the settings.

    Args:
        data_dir: Folder that holds ``molecules/``. Default: the environment variable
            ``BOTORCH_ROMA_DATA``, then ``~/.cache/botorch_roma``.
        oracle: ``"gsk3"``, ``"qed"`` or ``"penalized_logp"``. Default: ``"gsk3"``.
        dtype: Floating point dtype of the task. Default: ``torch.double``.
        verify_checksums: Whether the file must be the known one, byte for byte. Default: True.
        use_cache: Whether to read and write the cache. Default: True.
        n_jobs: Threads that fit the forest. Default: 1.

    Returns:
        The task, its oracle not yet called.

    Raises:
        FileNotFoundError: If the file is missing.
        ImportError: If RDKit or SELFIES is not installed.
        ValueError: If the file is damaged or another one than expected, or an argument is wrong.

    Warns:
        RuntimeWarning: If the cache is damaged or cannot be written.
    """
    check_choice("oracle", oracle, _TASKS)
    check_int("n_jobs", n_jobs, minimum=1)
    for module in ("rdkit", "selfies"):
        import_chemistry(module)
    name, source, build, description = _TASKS[oracle]
    lines, checksum = read_lines(name, data_dir, source, verify_checksums)
    arrays = cached_arrays(
        f"molecule-{oracle}",
        _cache_key(oracle, checksum),
        partial(build, lines, n_jobs=n_jobs),
        use_cache=use_cache,
    )
    return _make_task(oracle, arrays, description, source, dtype)


def _cache_key(oracle: str, checksum: str) -> dict[str, Any]:
    """All that the arrays depend on; ``layout`` counts the changes of this code that matter."""
    key: dict[str, Any] = {"layout": 1, "oracle": oracle, "data": checksum}
    packages = ["rdkit", "selfies", *(["scikit-learn"] if oracle == "gsk3" else [])]
    key["versions"] = {package: version(package) for package in packages}
    key["designs"] = [MAX_LENGTH, MIN_MOLECULES]
    if oracle == "gsk3":
        forest = activity_forest
        key["forest"] = [forest.NUM_TREES, forest.MIN_SAMPLES_LEAF, forest.FOREST_SEED]
        key["fingerprints"] = [FINGERPRINT_RADIUS, FINGERPRINT_BITS]
    return key


def _build_gsk3(lines: Sequence[str], *, n_jobs: int) -> dict[str, Array]:
    texts, measured = parse_activity(lines, "gsk3", GSK3_FILE)
    merged, dropped = merge_molecules(texts)
    labels = {smiles: {measured[i] for i in rows} for smiles, rows in merged.items()}
    smiles = [text for text, found in labels.items() if len(found) == 1]
    dropped["measured as both"] = len(labels) - len(smiles)
    activity = np.array([labels[text] == {1} for text in smiles], dtype=np.int64)
    bits = fingerprints(smiles)
    forest = fit_forest(bits, activity, n_jobs=n_jobs)
    designs = make_designs(smiles)
    y = activity_forest.forest_scores(forest, bits[designs.rows], designs.rows)
    return {
        **_as_arrays(designs, y, len(texts), dropped),
        **forest._asdict(),
        "smiles": np.frombuffer("\n".join(smiles).encode(), dtype=np.uint8),
    }


def _build_exact(lines: Sequence[str], *, score: Score, n_jobs: int) -> dict[str, Array]:
    merged, dropped = merge_molecules(lines)
    smiles = list(merged)
    designs = make_designs(smiles)
    y = score([smiles[i] for i in designs.rows])
    return _as_arrays(designs, y, len(lines), dropped)


def _as_arrays(
    designs: Designs, y: Array, num_rows: int, dropped: Mapping[str, int]
) -> dict[str, Array]:
    return {
        "tokens": designs.tokens,
        "symbols": np.array(designs.symbols),
        "y": y,
        "num_rows": np.array(num_rows),
        "dropped": np.array(json.dumps({**dropped, **designs.dropped})),
    }


def _make_task(
    oracle: str, arrays: dict[str, Array], description: str, source: str, dtype: torch.dtype
) -> OfflineTask:
    vocabulary = Vocabulary([str(symbol) for symbol in arrays["symbols"]], padded=True)
    y = arrays["y"]
    visible = y <= np.percentile(y, PERCENTILE)
    X = torch.from_numpy(arrays["tokens"][visible]).to(dtype)
    dropped = json.loads(str(arrays["dropped"]))
    without = ", ".join(f"{count:,} {reason}" for reason, count in dropped.items() if count)
    return OfflineTask(
        name="molecule" if oracle == "gsk3" else f"molecule-{oracle}",
        X=X,
        Y=torch.from_numpy(y[visible]).to(dtype).unsqueeze(-1),
        vocabulary=vocabulary,
        post_processing_func=partial(canonical_tokens, vocabulary=vocabulary),
        oracle=MoleculeOracle(vocabulary, _score(oracle, arrays), float(y.min())),
        ranges={"full": (float(y.min()), float(y.max()))},
        random_designs=partial(
            random_tokens,
            vocabulary=vocabulary,
            lengths=vocabulary.lengths(X),
            length=X.shape[1],
        ),
        description=(
            f"{description} {len(y):,} molecules, those up to the {PERCENTILE}th percentile "
            f"visible; of {int(arrays['num_rows']):,} rows without {without or 'any loss'}."
        ),
        substitute=_NOTE + description,
        provenance=source,
    )


def _score(oracle: str, arrays: dict[str, Array]) -> Score:
    if oracle != "gsk3":
        return _EXACT[oracle]
    forest = Forest(**{name: arrays[name] for name in Forest._fields})
    return ActivityScore(forest, arrays["smiles"].tobytes().decode().split("\n"))


class MoleculeOracle:
    r"""Scores token sequences by the molecules that they stand for.

    Args:
        vocabulary: SELFIES symbols.
        score: Maps ``n`` canonical SMILES to ``n`` values.
        empty_score: Value of the empty molecule.
    """

    def __init__(self, vocabulary: Vocabulary, score: Score, empty_score: float) -> None:
        self._vocabulary, self._score, self._empty_score = vocabulary, score, empty_score

    def __call__(self, X: Tensor) -> Tensor:
        """Value of each of the ``n x length`` token sequences, shape ``n``."""
        smiles = np.array(to_smiles(X.cpu(), self._vocabulary), dtype=object)
        values = np.full(len(smiles), self._empty_score)
        some = smiles != ""
        values[some] = self._score(smiles[some].tolist())
        return torch.from_numpy(values).to(X)


def qed_scores(smiles: Sequence[str]) -> Array:
    """Drug-likeness of ``n`` SMILES, 0..1."""
    chem, qed = import_chemistry("rdkit.Chem"), import_chemistry("rdkit.Chem.QED")
    return np.array([qed.qed(chem.MolFromSmiles(text)) for text in smiles])


def penalized_logp_scores(smiles: Sequence[str]) -> Array:
    """LogP minus synthetic accessibility minus the largest ring's atoms beyond 6, of ``n`` SMILES.

    The three terms are not standardised, as they are in some papers.
    """
    chem, crippen = import_chemistry("rdkit.Chem"), import_chemistry("rdkit.Chem.Crippen")
    sascorer = import_chemistry("rdkit.Contrib.SA_Score.sascorer")
    values = []
    for text in smiles:
        molecule = chem.MolFromSmiles(text)
        rings = molecule.GetRingInfo().AtomRings()
        penalty = max(0, max(map(len, rings), default=0) - 6)
        values.append(crippen.MolLogP(molecule) - sascorer.calculateScore(molecule) - penalty)
    return np.array(values)


_EXACT: dict[str, Score] = {"qed": qed_scores, "penalized_logp": penalized_logp_scores}

# File, source, what builds its arrays, and a sentence of each task.
_TASKS: dict[str, tuple[str, str, Callable[..., dict[str, Array]], str]] = {
    "gsk3": (
        GSK3_FILE,
        GSK3_SOURCE,
        _build_gsk3,
        "Predicted probability that a molecule inhibits GSK3-beta, by a random forest on Morgan "
        "fingerprints that is trained on measured activity.",
    ),
    "qed": (
        ZINC_FILE,
        ZINC_SOURCE,
        partial(_build_exact, score=qed_scores),
        "Drug-likeness (QED) of molecules of ZINC, computed exactly.",
    ),
    "penalized_logp": (
        ZINC_FILE,
        ZINC_SOURCE,
        partial(_build_exact, score=penalized_logp_scores),
        "Penalised logP of molecules of ZINC, computed exactly.",
    ),
}

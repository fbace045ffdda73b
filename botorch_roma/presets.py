r"""
Named configurations of both stages.

``paper`` follows the text of [Yu2021roma]_, ``author_code`` the published code, rule by rule. They
take their radius, step size and epochs from the table of the paper's tasks, where there is an
entry; other continuous tasks use the row of Superconductor, other discrete ones that of GFP. Token
sequences go through a latent space with the published VAE.
``default`` is ours: an ensemble of five, steps along the gradient, a large radius, and a few rounds
of local search where designs hold tokens. ``fast`` is its forerunner, the defaults of the functions
themselves: one small network, which learns and moves in a fraction of the time. ``selected`` is a
small ensemble for which :func:`~botorch_roma.selection.select_options` chooses the number of
updates and of rounds of the local search.
Common to all presets and not in the paper: start designs and candidates are distinct, bounds hold,
up to 200 rows are held out to watch the training, and the learning rate of the VAE has a schedule.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple

from botorch.exceptions.errors import UnsupportedError

from botorch_roma.validation import check_choice


class PaperSettings(NamedTuple):
    """What the paper sets task by task: ball radius, step size of ``x``, pre-training epochs."""

    radius: float
    lr: float
    epochs: int


#: The rows of the paper's table, by task.
PAPER_SETTINGS: dict[str, PaperSettings] = {
    "superconductor": PaperSettings(5e-4, 3e-3, 50),
    "dkitty": PaperSettings(5e-3, 3e-3, 50),
    "ant": PaperSettings(5e-3, 3e-3, 100),
    "hopper": PaperSettings(5e-3, 2e-3, 200),
    "gfp": PaperSettings(5e-4, 2e-3, 100),
    "molecule": PaperSettings(5e-4, 2e-3, 100),
}


PAPER_LATENT_EPOCHS: int = 200
PAPER_BATCH_SIZE: int = 128

#: No task of the paper takes more minibatches than this in stage 1.
MAX_PAPER_BATCHES: int = 8_000


@dataclass(frozen=True)
class Preset:
    r"""Keyword arguments of the model, of stage 1 and of stage 2.

    Attributes:
        name: ``"default"``, ``"fast"``, ``"selected"``, ``"paper"`` or ``"author_code"``.
        model: For :class:`~botorch_roma.models.RoMAModel`.
        fit: For :func:`~botorch_roma.fit.fit_roma_model`.
        optimize: For :func:`~botorch_roma.optim.optimize_acqf_roma`.
        encoding: How token sequences are encoded: ``"one_hot"``, ``"logits"`` or ``"latent"``.
        latent: For :meth:`~botorch_roma.latent.LatentSpace.fit`.
        select: For :func:`~botorch_roma.selection.select_options`, whose choice goes over
            ``optimize``; None where nothing is selected. Stage 1 comes before, so that
            ``fit_settings`` is none of them.
    """

    name: str
    model: dict[str, Any] = field(default_factory=dict)
    fit: dict[str, Any] = field(default_factory=dict)
    optimize: dict[str, Any] = field(default_factory=dict)
    encoding: str = "one_hot"
    latent: dict[str, Any] = field(default_factory=dict)
    select: dict[str, Any] | None = None

    def check_select(self) -> dict[str, Any] | None:
        """Return :attr:`select`.

        Raises:
            UnsupportedError: For ``fit_settings``, whose choice would come too late.
        """
        if self.select is not None and self.select.get("fit_settings") is not None:
            raise UnsupportedError(
                f"`select` holds `fit_settings` = {self.select['fit_settings']!r}, and a preset "
                "selects after stage 1; call `select_options` yourself, and put what it returns as "
                "`fit_options` into `fit`."
            )
        return self.select

    def as_dict(self) -> dict[str, Any]:
        """All settings as one nested dictionary of primitives."""
        return {
            "name": self.name,
            "model": dict(self.model),
            "fit": dict(self.fit),
            "optimize": dict(self.optimize),
            "encoding": self.encoding,
            "latent": dict(self.latent),
            "select": None if self.select is None else dict(self.select),
        }


def _published(
    name: str, settings: PaperSettings, loss: str, latent_epochs: int, **optimize: Any
) -> Preset:
    """What the paper and the authors' code have in common."""
    return Preset(
        name=name,
        encoding="latent",
        latent={
            "latent_dim": 32,
            "hidden_sizes": (256, 256),
            "architecture": "mlp",
            "beta": 1.0,
            "epochs": latent_epochs,
            "batch_size": PAPER_BATCH_SIZE,
            "lr": 1e-3,
            "min_reconstruction": 0.0,  # published without a check: warn, do not refuse
        },
        model={"hidden_sizes": (64, 64), "activation": "softplus", "num_members": 1},
        fit={
            "loss": loss,
            "noise_std": 0.2,
            "radius": settings.radius,
            "num_ascent_steps": 20,
            "epochs": settings.epochs,
            "batch_size": PAPER_BATCH_SIZE,
            "lr": 1e-3,
            "max_grad_norm": 1.0,
        },
        optimize={
            "radius": settings.radius,
            "num_adaptation_steps": 100,
            "alpha": 1.0,
            "pseudo_label_loss": loss,
            "early_stop": False,
            "reuse_steps": 0,
            "lr": settings.lr,
            "num_updates": 500,
            "max_spread": None,
            "reencode_every": None,
            "min_distance": None,
            "local_search_rounds": 0,
            **optimize,
        },
    )


def _paper(settings: PaperSettings, latent_epochs: int) -> Preset:
    return _published(
        "paper",
        settings,
        "squared_error",
        latent_epochs,
        mode="per_candidate",
        initial_pseudo_label="predicted",
        step_rule="gradient",
        region=None,
    )


def _author_code(settings: PaperSettings, latent_epochs: int) -> Preset:
    return _published(
        "author_code",
        settings,
        "nll",
        latent_epochs,
        mode="shared",
        initial_pseudo_label="measured",
        step_rule="adam",
        region=4.0,
    )


def _default(settings: PaperSettings, latent_epochs: int) -> Preset:
    return Preset(
        name="default",
        model={"hidden_sizes": (128, 128), "num_members": 5},
        fit={"noise_std": None},
        optimize={
            "radius": 0.05,
            "step_rule": "gradient",
            "lr": None,
            "region": None,
            "num_updates": 100,
            "local_search_rounds": 5,
        },
    )


def _small(name: str, num_members: int, select: dict[str, Any] | None, **optimize: Any) -> Preset:
    """What is ours with small networks, Adam and the noise of the paper."""
    return Preset(
        name=name,
        model={"hidden_sizes": (64, 64), "num_members": num_members},
        fit={"noise_std": 0.2},
        optimize={"step_rule": "adam", "region": 4.0, "num_updates": 300, **optimize},
        select=select,
    )


def _fast(settings: PaperSettings, latent_epochs: int) -> Preset:
    return _small("fast", 1, None, radius=0.02, lr=0.01, local_search_rounds=0)


def _selected(settings: PaperSettings, latent_epochs: int) -> Preset:
    return _small("selected", 3, {}, radius=0.05, lr=0.015, local_search_rounds=50)


_FACTORIES = {
    "default": _default,
    "fast": _fast,
    "selected": _selected,
    "paper": _paper,
    "author_code": _author_code,
}

#: Names of all presets.
PRESETS: tuple[str, ...] = tuple(_FACTORIES)


def get_preset(
    name: str = "default",
    task: str | None = None,
    *,
    discrete: bool = False,
    num_rows: int | None = None,
) -> Preset:
    r"""Look a preset up.

    Args:
        name: ``"default"``, ``"fast"`` (the defaults of the functions themselves),
            ``"selected"``, ``"paper"`` or ``"author_code"``.
        task: Name of a task of the paper, whose row of :data:`PAPER_SETTINGS` is then used.
        discrete: Whether an unlisted task is discrete.
        num_rows: Number of rows. The paper's tasks take 4,000 to 8,000 minibatches in stage 1 (and
            twice as many for the VAE); so no more epochs are taken than make 8,000 (16,000). On
            the paper's own tables that changes nothing; our ``molecule`` is ten times as large.

    Raises:
        ValueError: For an unknown name.

    Example:
        >>> preset = get_preset("paper", "superconductor")
        >>> history = fit_roma_model(model, **preset.fit)
        >>> best, values = optimize_acqf_roma(
        ...     PosteriorMean(model), bounds, q=128, **preset.optimize
        ... )
    """
    check_choice("preset", name, PRESETS)
    settings, latent_epochs = PAPER_SETTINGS.get(task or ""), PAPER_LATENT_EPOCHS
    if settings is None:
        settings = PAPER_SETTINGS["gfp" if discrete else "superconductor"]
    if num_rows is not None:
        most = max(1, round(MAX_PAPER_BATCHES * PAPER_BATCH_SIZE / num_rows))
        settings = settings._replace(epochs=min(settings.epochs, most))
        latent_epochs = min(latent_epochs, 2 * most)
    return _FACTORIES[name](settings, latent_epochs)

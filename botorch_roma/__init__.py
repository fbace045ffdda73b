r"""
RoMA (Robust Model Adaptation, NeurIPS 2021) for BoTorch and Ax: offline, zero-query optimisation.

Hand it designs that were measured once, get back designs worth measuring next. References are given
as [Yu2021roma]_, see :mod:`botorch_roma.network`.
"""

from __future__ import annotations

from botorch_roma._clock import BEGAN as _BEGAN  # noqa: F401 - before what takes long
from botorch_roma.adaptation import adapt_roma_model
from botorch_roma.fit import FitHistory, fit_roma_model
from botorch_roma.models import AdaptedRoMAModel, RoMAModel
from botorch_roma.optim import (
    RoMAOptions,
    Trajectory,
    gen_candidates_roma,
    gen_top_designs,
    optimize_acqf_roma,
)
from botorch_roma.presets import PRESETS, Preset, get_preset
from botorch_roma.proposal import Proposal
from botorch_roma.propose import propose
from botorch_roma.tasks import OfflineTask, load_task

__version__ = "0.1.0"

__all__ = [
    "PRESETS",
    "AdaptedRoMAModel",
    "FitHistory",
    "OfflineTask",
    "Preset",
    "Proposal",
    "RoMAModel",
    "RoMAOptions",
    "Trajectory",
    "adapt_roma_model",
    "fit_roma_model",
    "gen_candidates_roma",
    "gen_top_designs",
    "get_preset",
    "load_task",
    "optimize_acqf_roma",
    "propose",
]

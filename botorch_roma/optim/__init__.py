"""Stage 2: start designs, candidate generation, optimisation."""

from botorch_roma.optim.generation import gen_candidates_roma
from botorch_roma.optim.initializers import gen_top_designs
from botorch_roma.optim.optimize import optimize_acqf_roma, optimize_acqfs_roma
from botorch_roma.optim.options import RoMAOptions
from botorch_roma.optim.trajectory import Trajectory

__all__ = [
    "RoMAOptions",
    "Trajectory",
    "gen_candidates_roma",
    "gen_top_designs",
    "optimize_acqf_roma",
    "optimize_acqfs_roma",
]

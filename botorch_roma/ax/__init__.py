r"""
RoMA in Ax: ``pip install "botorch-roma[ax]"``.

Importing this makes the package's classes known to Ax's storage.
"""

from botorch_roma.ax.acquisition import RoMAAcquisition
from botorch_roma.ax.criterion import MinResults
from botorch_roma.ax.experiment import attach_offline_data, offline_experiment
from botorch_roma.ax.generation_strategy import gp_generation_strategy, roma_generation_strategy
from botorch_roma.ax.node import OfflineNode
from botorch_roma.ax.search_space import infer_parameters
from botorch_roma.ax.storage import register
from botorch_roma.ax.subset import OfflineSubset
from botorch_roma.ax.surrogate import RoMASurrogate, roma_surrogate_spec

register()

__all__ = [
    "MinResults",
    "OfflineNode",
    "OfflineSubset",
    "RoMAAcquisition",
    "RoMASurrogate",
    "attach_offline_data",
    "gp_generation_strategy",
    "infer_parameters",
    "offline_experiment",
    "roma_generation_strategy",
    "roma_surrogate_spec",
]

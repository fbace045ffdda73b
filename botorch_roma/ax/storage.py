r"""
Names under which Ax stores the classes of this package, in JSON and in SQL.

Registered on import of ``botorch_roma.ax``, which both the saving and the loading process need.
"""

from __future__ import annotations

from ax.core.arm import Arm
from ax.storage.botorch_modular_registry import (
    register_acquisition,
    register_acquisition_function,
    register_model,
)
from ax.storage.json_store.encoders import (
    arm_to_dict,
    surrogate_to_dict,
    transition_criterion_to_dict,
)
from ax.storage.json_store.registry import CORE_DECODER_REGISTRY, CORE_ENCODER_REGISTRY
from ax.storage.transform_registry import register_transform
from botorch.acquisition.multi_objective.logei import qLogExpectedHypervolumeImprovement

from botorch_roma.acquisition import ConstrainedPosteriorMean
from botorch_roma.ax.acquisition import RoMAAcquisition
from botorch_roma.ax.criterion import MinResults
from botorch_roma.ax.experiment import MeasuredArm
from botorch_roma.ax.subset import OfflineSubset
from botorch_roma.ax.surrogate import RoMASurrogate
from botorch_roma.models.roma import RoMAModel


def register() -> None:
    """Make all classes known to Ax's storage; harmless when repeated."""
    register_model(RoMAModel)
    register_acquisition(RoMAAcquisition)
    register_acquisition_function(ConstrainedPosteriorMean)
    register_acquisition_function(qLogExpectedHypervolumeImprovement)
    register_transform(OfflineSubset)
    CORE_ENCODER_REGISTRY[RoMASurrogate] = surrogate_to_dict
    CORE_DECODER_REGISTRY[RoMASurrogate.__name__] = RoMASurrogate
    CORE_ENCODER_REGISTRY[MeasuredArm] = lambda arm: arm_to_dict(Arm(arm.parameters, arm.name))
    CORE_ENCODER_REGISTRY[MinResults] = transition_criterion_to_dict
    CORE_DECODER_REGISTRY[MinResults.__name__] = MinResults

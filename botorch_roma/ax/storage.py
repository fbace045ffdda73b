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
from botorch.acquisition import (
    AcquisitionFunction,
    ProbabilityOfImprovement,
    UpperConfidenceBound,
    qProbabilityOfImprovement,
)
from botorch.acquisition.analytic import LogProbabilityOfImprovement
from botorch.acquisition.multi_objective.logei import qLogExpectedHypervolumeImprovement

from botorch_roma.acquisition import ConstrainedPosteriorMean
from botorch_roma.ax.acquisition import RoMAAcquisition
from botorch_roma.ax.criterion import MinResults
from botorch_roma.ax.experiment import MeasuredArm
from botorch_roma.ax.node import OfflineNode, offline_node_to_dict
from botorch_roma.ax.subset import OfflineSubset
from botorch_roma.ax.surrogate import RoMASurrogate
from botorch_roma.models.roma import RoMAModel

#: Acquisition functions that suit RoMA; some of them Ax does not know by itself.
ACQUISITION_FUNCTIONS: tuple[type[AcquisitionFunction], ...] = (
    ConstrainedPosteriorMean,
    LogProbabilityOfImprovement,
    ProbabilityOfImprovement,
    UpperConfidenceBound,
    qLogExpectedHypervolumeImprovement,
    qProbabilityOfImprovement,
)


def register() -> None:
    """Make all classes known to Ax's storage; harmless when repeated."""
    register_model(RoMAModel)
    register_acquisition(RoMAAcquisition)
    for acqf_class in ACQUISITION_FUNCTIONS:
        register_acquisition_function(acqf_class)
    register_transform(OfflineSubset)
    CORE_ENCODER_REGISTRY[RoMASurrogate] = surrogate_to_dict
    CORE_DECODER_REGISTRY[RoMASurrogate.__name__] = RoMASurrogate
    CORE_ENCODER_REGISTRY[MeasuredArm] = lambda arm: arm_to_dict(Arm(arm.parameters, arm.name))
    CORE_ENCODER_REGISTRY[MinResults] = transition_criterion_to_dict
    CORE_DECODER_REGISTRY[MinResults.__name__] = MinResults
    CORE_ENCODER_REGISTRY[OfflineNode] = offline_node_to_dict
    CORE_DECODER_REGISTRY[OfflineNode.__name__] = OfflineNode

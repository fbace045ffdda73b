"""BoTorch models: the fitted proxy and its adapted form."""

from botorch_roma.models.adapted import AdaptedRoMAModel
from botorch_roma.models.roma import RoMAModel

__all__ = ["AdaptedRoMAModel", "RoMAModel"]

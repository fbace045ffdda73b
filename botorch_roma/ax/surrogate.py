r"""
``RoMAModel`` as the surrogate of Ax's ``BoTorchGenerator``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ax.generators.torch.botorch_modular.surrogate import ModelConfig, SurrogateSpec
from ax.generators.torch.botorch_modular.utils import fit_botorch_model

from botorch_roma.fit import fit_roma_model
from botorch_roma.models.roma import RoMAModel


@fit_botorch_model.register(RoMAModel)
def _fit_botorch_model_roma(
    model: RoMAModel, mll_class: Any = None, mll_options: Mapping[str, Any] | None = None
) -> None:
    """Stage 1; Ax passes no other options to a fit than ``mll_options``."""
    fit_roma_model(model, **{"seed": model.seed, **(mll_options or {})})


def roma_surrogate_spec(
    model_options: Mapping[str, Any] | None = None,
    fit_options: Mapping[str, Any] | None = None,
) -> SurrogateSpec:
    r"""A surrogate that is a :class:`~botorch_roma.models.RoMAModel`, for any Ax generator.

    Args:
        model_options: Options of :class:`~botorch_roma.models.RoMAModel`.
        fit_options: Options of :func:`~botorch_roma.fit.fit_roma_model`.

    Example:
        >>> Generators.BOTORCH_MODULAR(
        ...     experiment=experiment, surrogate_spec=roma_surrogate_spec(),
        ...     acquisition_class=RoMAAcquisition, botorch_acqf_class=ConstrainedPosteriorMean,
        ... )
    """
    config = ModelConfig(
        botorch_model_class=RoMAModel,
        model_options=dict(model_options or {}),
        mll_options=dict(fit_options or {}),
        input_transform_classes=None,  # inputs are z-scored inside the model
        name="RoMA",
    )
    return SurrogateSpec(model_configs=[config])

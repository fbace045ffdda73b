r"""
The settings of stage 2, checked once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal, get_args

from botorch.exceptions.errors import UnsupportedError

from botorch_roma.adaptation import Mode, check_reuse
from botorch_roma.closed_form import FirstLayer, Loss
from botorch_roma.inner_loop import WeightForm
from botorch_roma.validation import check_choice, check_flag, check_float, check_int

StepRule = Literal["adam", "gradient"]
InitialPseudoLabel = Literal["predicted", "measured"]

#: Default step size of Adam.
ADAM_STEP: float = 0.01

#: Default step size along the gradient, for each root of the number of inputs.
GRADIENT_STEP: float = 0.1


@dataclass(frozen=True, kw_only=True)
class RoMAOptions:
    r"""Settings of stage 2 of RoMA: adaptation and solution update; by default those of ``"fast"``.

    Attributes:
        radius: Radius of the weight ball relative to each tensor's norm; 0 switches the
            adaptation off, which leaves gradient ascent on the fitted proxy.
        num_adaptation_steps: Normalised descent steps of each adaptation.
        alpha: Weight of the pseudo-label term, on the standardised outcome.
        mode: ``"per_candidate"`` (the formula of the paper) or ``"shared"`` (the authors' code).
        pseudo_label_loss: ``"squared_error"`` (the paper) or ``"nll"`` (the authors' code).
        initial_pseudo_label: Pseudo label of the first update: the fitted model's prediction, or
            the ``"measured"`` outcome of the start design (the authors' code).
        first_layer: ``"auto"``, ``"dense"`` or ``"reduced"``; the result is the same.
        weight_form: ``"auto"``, ``"dense"`` or ``"factored"``; the result is the same.
        early_stop: Whether a candidate ends its adaptation before a step that does not lower its
            objective. The paper takes all steps, and a stop saves no time.
        reuse_steps: Number of the latest steps of an adaptation that the next one begins with,
            instead of taking them anew. That deviates from the paper, where the adaptation restarts
            from the fitted weights at every update, and is as much faster. 0 is the paper.
        step_rule: ``"adam"``, or ``"gradient"`` for ``x + lr * gradient``.
        lr: Step size of the candidates in z-scored inputs (in standard deviations of the raw
            inputs, also where the model has an input transform). By default 0.01 with
            Adam and ``0.1 * sqrt(d)`` along the gradient, see :meth:`step_size`.
        num_updates: Number of updates of each candidate.
        region: Trust region of the cap: ``(f(x) - f(x_0))^2 / (2 * region)`` is subtracted from
            the objective, so a candidate stops once its predicted gain reaches ``region``
            standard deviations of the outcome (after the outcome transform, if there is one;
            with several outputs or models, of the acquisition value). None switches it off.
        max_spread: A step that would lead to where the members of an ensemble differ by more is not
            taken: the standard deviation of what the fitted members predict, in standard
            deviations of the outcome. None takes all steps. Needs at least two members; not in the
            paper. The finishing local search does not look at it.
        reencode_every: After this many updates every candidate is decoded and encoded again,
            which keeps it where the encoding stands for designs. Needs a model with an encoding;
            None for never.
        min_distance: Distance that final candidates keep from each other, root mean square over the
            inputs, in standard deviations of the data. The best one stays, each of the others goes
            back along its path as far as it takes; what the finishing local search has found,
            along that of the candidate that ended nearest. None leaves them where they end,
            however close; not in the paper.
        local_search_rounds: Where designs hold tokens: rounds of the finishing local search, of
            which each adds all designs that differ from a candidate in one token and keeps the
            best; 0 for none. It ends by itself where nothing better is found.

    Raises:
        ValueError: For a value out of range, named with the value received.
    """

    radius: float = 0.02
    num_adaptation_steps: int = 10
    alpha: float = 1.0
    mode: Mode = "per_candidate"
    pseudo_label_loss: Loss = "squared_error"
    initial_pseudo_label: InitialPseudoLabel = "predicted"
    first_layer: FirstLayer = "auto"
    weight_form: WeightForm = "auto"
    early_stop: bool = False
    reuse_steps: int = 0
    step_rule: StepRule = "adam"
    lr: float | None = None
    num_updates: int = 300
    region: float | None = 4.0
    max_spread: float | None = None
    reencode_every: int | None = None
    min_distance: float | None = None
    local_search_rounds: int = 0

    def __post_init__(self) -> None:
        check_float("radius", self.radius)
        check_int("num_adaptation_steps", self.num_adaptation_steps, minimum=0)
        check_float("alpha", self.alpha)
        check_choice("mode", self.mode, get_args(Mode))
        check_choice("pseudo_label_loss", self.pseudo_label_loss, get_args(Loss))
        check_choice(
            "initial_pseudo_label", self.initial_pseudo_label, get_args(InitialPseudoLabel)
        )
        check_choice("first_layer", self.first_layer, get_args(FirstLayer))
        check_choice("weight_form", self.weight_form, get_args(WeightForm))
        check_flag("early_stop", self.early_stop)
        check_reuse(
            self.reuse_steps,
            "num_adaptation_steps",
            self.num_adaptation_steps,
            mode=self.mode,
            early_stop=self.early_stop,
        )
        check_choice("step_rule", self.step_rule, get_args(StepRule))
        if self.lr is not None:
            check_float("lr", self.lr, exclusive=True)
        check_int("num_updates", self.num_updates, minimum=0)
        if self.region is not None:
            check_float("region", self.region, exclusive=True)
        if self.max_spread is not None:
            check_float("max_spread", self.max_spread, exclusive=True)
        if self.reencode_every is not None:
            check_int("reencode_every", self.reencode_every, minimum=1)
        if self.min_distance is not None:
            check_float("min_distance", self.min_distance, exclusive=True)
        check_int("local_search_rounds", self.local_search_rounds, minimum=0)

    def check_applies(self, num_members: int, *, encoded: bool) -> None:
        r"""Refuse what has no meaning with some model.

        Args:
            num_members: Members of its ensemble; of several models, of the smallest one.
            encoded: Whether it has an encoding of its designs.

        Raises:
            UnsupportedError: For ``max_spread`` with one member, and ``reencode_every`` without an
                encoding.
        """
        if self.max_spread is not None and num_members == 1:
            raise UnsupportedError(
                f"`max_spread` is {self.max_spread:g}, but a model has one network only, which "
                "cannot differ from itself; give `RoMAModel` more `num_members`, or leave it out."
            )
        if self.reencode_every is not None and not encoded:
            raise UnsupportedError(
                "`reencode_every` needs a model with an encoding of its designs as "
                f"`input_transform`, received {self.reencode_every} and none; leave it out."
            )

    def step_size(self, d: int) -> float:
        """``lr``, or its default where ``d`` numbers move."""
        if self.lr is not None:
            return self.lr
        return ADAM_STEP if self.step_rule == "adam" else GRADIENT_STEP * d**0.5

    @classmethod
    def names(cls) -> set[str]:
        """Names of all settings."""
        return {f.name for f in fields(cls)}

    @classmethod
    def from_mapping(cls, mapping: Mapping[str, Any]) -> RoMAOptions:
        """Settings from those keys of a mapping that are settings; other keys are ignored."""
        return cls(**{key: value for key, value in mapping.items() if key in cls.names()})

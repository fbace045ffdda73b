r"""
Gradient ascent on a plainly trained proxy, or on an ensemble of proxies.
"""

from __future__ import annotations

from torch import Tensor

from botorch_roma.baselines.ensemble import Aggregate, Ensemble
from botorch_roma.baselines.space import DesignSpace
from botorch_roma.progress import track
from botorch_roma.tasks import OfflineTask
from botorch_roma.validation import check_float, check_int


def gradient_ascent(
    task: OfflineTask,
    q: int = 128,
    *,
    seed: int = 0,
    num_members: int = 1,
    aggregate: Aggregate = "mean",
    encoding: str = "logits",
    hidden_sizes: tuple[int, ...] = (2048, 2048),
    activation: str = "leaky_relu",
    epochs: int | None = None,
    lr: float = 3e-4,
    num_steps: int = 200,
    step_size: float = 0.01,
    progress: bool = False,
) -> Tensor:
    r"""Climb the prediction from the best visible designs [Trabucco2022design]_.

    Args:
        task: The task; its oracle is not asked.
        q: Number of candidates.
        seed: Seed of initial weights, data order and split.
        num_members: Number of networks; the published ensembles have five.
        aggregate: ``"mean"`` of the networks, or their ``"min"``, vector by vector.
        encoding: What token sequences are: ``"logits"`` or ``"one_hot"``.
        hidden_sizes: Width of every hidden layer.
        activation: Activation function.
        epochs: Passes over the data; 50 for vectors, 100 for tokens by default.
        lr: Learning rate of Adam.
        num_steps: Number of steps.
        step_size: Length of a step per unit of gradient, before it is multiplied by the root of
            the number of inputs.
        progress: Show progress bars on standard error.

    Returns:
        Candidates, ``q x d``; several may be one design.
    """
    check_int("num_steps", num_steps, minimum=0)
    check_float("step_size", step_size)
    space = DesignSpace(task, encoding)
    if epochs is None:
        epochs = 50 if task.vocabulary is None else 100
    ensemble = Ensemble(
        space,
        num_members=num_members,
        hidden_sizes=hidden_sizes,
        activation=activation,
        epochs=epochs,
        lr=lr,
        seed=seed,
        progress=progress,
    )
    Z, length = space.start(q), step_size * space.dim**0.5
    for _ in track(range(num_steps), total=num_steps, description="ascent", enabled=progress):
        Z = Z + length * ensemble.ascent_direction(Z, aggregate)
    return space.decode(Z)

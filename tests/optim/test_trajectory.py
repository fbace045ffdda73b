from __future__ import annotations

import dataclasses

import pytest
import torch
from botorch.acquisition import LogExpectedImprovement, PosteriorMean
from botorch.acquisition.objective import ScalarizedPosteriorTransform
from matplotlib.figure import Figure
from torch import Tensor

from botorch_roma import RoMAModel, Trajectory, adapt_roma_model, optimize_acqf_roma

UPDATES, Q = 12, 5


@pytest.fixture(scope="module")
def recorded(ensemble: RoMAModel, bounds: Tensor) -> tuple[Trajectory, Tensor]:
    trajectory = Trajectory()
    X, _ = optimize_acqf_roma(
        PosteriorMean(ensemble),
        bounds,
        q=Q,
        radius=0.1,
        num_adaptation_steps=5,
        num_updates=UPDATES,
        trajectory=trajectory,
    )
    return trajectory, X


def test_one_entry_per_update(recorded: tuple[Trajectory, Tensor]) -> None:
    trajectory, X = recorded
    for f in (f for f in dataclasses.fields(Trajectory) if f.name != "positions"):
        entries = getattr(trajectory, f.name)
        assert len(entries) == UPDATES + (f.name == "x")
        for entry in entries:
            assert entry.shape == ((Q, 3) if f.name == "x" else (Q,))
            assert not entry.requires_grad
            assert torch.isfinite(entry).all()
    assert torch.equal(trajectory.x[-1], X)
    assert trajectory.stack("x").shape == (UPDATES + 1, Q, 3)


def test_starts_at_the_best_rows(recorded: tuple[Trajectory, Tensor], ensemble: RoMAModel) -> None:
    best = ensemble.train_Y.flatten().argsort(descending=True)[:Q]
    assert torch.equal(recorded[0].x[0], ensemble.train_X[best])


def test_predictions_are_those_of_the_models(
    recorded: tuple[Trajectory, Tensor], ensemble: RoMAModel
) -> None:
    """At every update, in units of the standardised outcome; fitted ones for reference."""
    trajectory, _ = recorded
    with torch.no_grad():
        for t, x in enumerate(trajectory.x[:-1]):
            fitted = ensemble.posterior(x.unsqueeze(1)).mean.flatten()
            expected = (fitted - ensemble.y_mean) / ensemble.y_std
            torch.testing.assert_close(trajectory.fitted_prediction[t], expected)
        adapted = adapt_roma_model(ensemble, trajectory.x[0], radius=0.1, num_steps=5)
        mean = adapted.posterior(trajectory.x[0].unsqueeze(1)).mean.flatten()
    torch.testing.assert_close(trajectory.predicted[0], (mean - ensemble.y_mean) / ensemble.y_std)
    torch.testing.assert_close(trajectory.acquisition_value[0], mean)
    assert torch.equal(trajectory.pseudo_label[0], trajectory.fitted_prediction[0])


def test_gradient_norms(recorded: tuple[Trajectory, Tensor], ensemble: RoMAModel) -> None:
    trajectory, _ = recorded
    adapted, fitted = trajectory.stack("gradient_norm"), trajectory.stack("fitted_gradient_norm")
    assert adapted.mean() < fitted.mean()
    assert adapted[0].mean() < fitted[0].mean()
    Z = ((trajectory.x[0] - ensemble.x_mean) / ensemble.x_std).requires_grad_(True)
    means, _ = ensemble.network(Z)
    norms = [torch.autograd.grad(m.sum(), Z, retain_graph=True)[0].norm(dim=1) for m in means]
    torch.testing.assert_close(fitted[0], torch.stack(norms).mean(dim=0))


def test_without_adaptation_both_curves_are_one(model: RoMAModel, bounds: Tensor) -> None:
    trajectory = Trajectory()
    optimize_acqf_roma(
        PosteriorMean(model), bounds, 3, radius=0.0, num_updates=3, trajectory=trajectory
    )
    for a, b in (("predicted", "fitted_prediction"), ("gradient_norm", "fitted_gradient_norm")):
        torch.testing.assert_close(trajectory.stack(a), trajectory.stack(b))


def test_recording_changes_nothing(model: RoMAModel, bounds: Tensor) -> None:
    acq_function = LogExpectedImprovement(model, best_f=model.train_Y.max())
    arguments = {"q": 3, "num_updates": 4, "num_adaptation_steps": 2}
    plain, _ = optimize_acqf_roma(acq_function, bounds, **arguments)
    trajectory = Trajectory()
    recorded, _ = optimize_acqf_roma(acq_function, bounds, trajectory=trajectory, **arguments)
    assert torch.equal(plain, recorded)
    assert not torch.allclose(trajectory.stack("predicted"), trajectory.stack("acquisition_value"))


def test_first_output_is_recorded(two_outputs: RoMAModel, bounds: Tensor) -> None:
    weights = torch.tensor([0.0, 1.0], dtype=torch.double)
    acq_function = PosteriorMean(
        two_outputs, posterior_transform=ScalarizedPosteriorTransform(weights)
    )
    trajectory = Trajectory()
    optimize_acqf_roma(acq_function, bounds, 3, num_updates=2, trajectory=trajectory)
    with torch.no_grad():
        mean = two_outputs.posterior(trajectory.x[0].unsqueeze(1)).mean.squeeze(1)
    standardised = (mean - two_outputs.y_mean) / two_outputs.y_std
    torch.testing.assert_close(trajectory.fitted_prediction[0], standardised[:, 0])


def test_plot(recorded: tuple[Trajectory, Tensor]) -> None:
    figure = recorded[0].plot()
    assert isinstance(figure, Figure)
    assert len(figure.axes) == 3
    titles = [axis.get_title() for axis in figure.axes]
    assert titles[0] == "standardised prediction"
    assert titles[1] == "input-gradient norm"
    assert titles[2].startswith("distance from start")
    assert [len(axis.get_lines()) for axis in figure.axes] == [2, 2, 1]
    (distance,) = figure.axes[2].get_lines()
    assert distance.get_ydata()[0] == 0.0
    assert distance.get_ydata()[-1] > 0.0


def test_plot_of_one_candidate(model: RoMAModel, bounds: Tensor) -> None:
    trajectory = Trajectory()
    optimize_acqf_roma(PosteriorMean(model), bounds, 1, num_updates=2, trajectory=trajectory)
    distance = trajectory.plot().axes[2].get_lines()[0].get_ydata()
    assert float(distance[-1]) < 1e3


def test_plot_of_nothing() -> None:
    with pytest.raises(ValueError, match="`Trajectory` is empty; pass it as `trajectory=`"):
        Trajectory().plot()


def test_without_positions(ensemble: RoMAModel) -> None:
    trajectory = Trajectory(positions=False)
    bounds = torch.stack([ensemble.train_X.min(dim=0).values, ensemble.train_X.max(dim=0).values])
    arguments = {"q": 2, "num_updates": 3, "trajectory": trajectory}
    optimize_acqf_roma(PosteriorMean(ensemble), bounds, **arguments)
    assert trajectory.x == []
    assert len(trajectory.predicted) == 3
    with pytest.raises(ValueError, match="`Trajectory` holds no positions"):
        trajectory.plot()
    with pytest.raises(ValueError, match=r"`trajectory` must be empty.*3 updates"):
        optimize_acqf_roma(PosteriorMean(ensemble), bounds, **arguments)


def test_a_second_run_needs_a_record_of_its_own(model: RoMAModel, bounds: Tensor) -> None:
    trajectory = Trajectory()
    arguments = {"q": 2, "num_updates": 1, "trajectory": trajectory}
    optimize_acqf_roma(PosteriorMean(model), bounds, **arguments)
    with pytest.raises(ValueError, match=r"`trajectory` must be empty.*1 updates"):
        optimize_acqf_roma(PosteriorMean(model), bounds, **arguments)

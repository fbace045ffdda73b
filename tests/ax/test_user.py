"""An Ax user: data frame, 128 arms, save, load in a new process, results, GP node."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("ax")

DATA = Path(__file__).parents[2].parent / "shared" / "data" / "design_bench_data"

GENERATE = """
import sys, warnings
import numpy as np, pandas as pd
warnings.simplefilter("ignore")
from ax.api.client import Client
from botorch_roma.ax import attach_offline_data, offline_experiment, roma_generation_strategy

folder, data = sys.argv[1:3]
if data:
    from botorch_roma.tasks import load_task
    task = load_task("tfbind8", data_dir=data)
    rows = np.random.default_rng(0).choice(task.num_rows, 1000, replace=False)
    tokens = task.X[rows].long().numpy()
    df = pd.DataFrame(np.array(list("ACGT"))[tokens], columns=[f"p{i}" for i in range(8)])
    df["y"] = task.Y[rows].flatten().double().numpy()
else:
    random = np.random.default_rng(0)
    df = pd.DataFrame(random.choice(list("ACGT"), (1000, 8)), columns=[f"p{i}" for i in range(8)])
    df["y"] = (df == "A").sum(axis=1) / 8.0
df = df.drop_duplicates([f"p{i}" for i in range(8)])
client = Client()
client.set_experiment(offline_experiment(df, objective="y"))
strategy = roma_generation_strategy(
    "roma_then_gp", min_results=100, max_gp_rows=150,
    fit_options={"epochs": 15}, optimizer_options={"num_updates": 100},
)
client.set_generation_strategy(strategy)
(run,) = strategy.gen(client._experiment, n=128)[0]
trial = client._experiment.new_batch_trial(run)
trial.mark_running(no_runner_required=True)
arms = pd.DataFrame([arm.parameters for arm in trial.arms])
assert len(arms.drop_duplicates()) == 128
assert len(arms.merge(df, on=list(arms.columns))) == 0
assert set(arms.to_numpy().ravel()) <= set("ACGT")
print(arms.iloc[0].str.cat(), client.predict([dict(arms.iloc[0])]))
client.save_to_json_file(f"{folder}/client.json")
"""

CONTINUE = """
import sys, warnings
import pandas as pd
warnings.simplefilter("ignore")
import botorch_roma.ax
from ax.api.client import Client
from ax.core.data import Data

folder, _ = sys.argv[1:3]
client = Client.load_from_json_file(f"{folder}/client.json")
experiment = client._experiment
trial = experiment.trials[1]
assert len(trial.arms) == 128 and trial.status.is_running
measured = pd.DataFrame({
    "trial_index": 1, "arm_name": [a.name for a in trial.arms], "metric_name": "y",
    "metric_signature": "y", "mean": [0.001 * i for i in range(128)], "sem": float("nan"),
})
experiment.attach_data(Data(df=measured))
trial.mark_completed()
(index,) = client.get_next_trials(max_trials=1)
(run,) = experiment.trials[index].generator_runs
assert run._generation_node_name == "GP", run._generation_node_name
model = client._generation_strategy.adapter.generator.surrogate.model
assert type(model).__name__ == "SingleTaskGP" and len(model.train_targets) == 150
client.save_to_json_file(f"{folder}/client.json")
Client.load_from_json_file(f"{folder}/client.json")
print("GP", experiment.trials[index].arm.parameters)
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    "data",
    [
        "",
        pytest.param(
            str(DATA), marks=pytest.mark.skipif(not DATA.exists(), reason=f"no data in {DATA.name}")
        ),
    ],
    ids=["synthetic", "tfbind8"],
)
def test_from_a_data_frame_to_the_gp(data: str, tmp_path: Path) -> None:
    for script in (GENERATE, CONTINUE):
        run = subprocess.run(
            [sys.executable, "-c", script, str(tmp_path), data],
            capture_output=True,
            text=True,
            check=False,
        )
        assert run.returncode == 0, run.stderr[-3000:]
    assert "GP {" in run.stdout

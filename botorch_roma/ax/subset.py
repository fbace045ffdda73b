r"""
A choice of rows for models that cannot take all of an offline table, such as exact GPs.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from ax.adapter.transforms.base import Transform
from ax.core.data_utils import ExperimentData
from ax.core.search_space import SearchSpace


class OfflineSubset(Transform):
    r"""An Ax transform that keeps at most ``max_rows`` observations.

    Results of the newest trials come first (up to half of the rows), since they are what the table
    did not know. Of the remaining places one half goes to the best rows of the older trials, the
    other half to a random sample of the rest, so that the model sees good and bad designs. The
    status quo stays in any case.

    Args:
        search_space: Not used.
        experiment_data: Not used.
        adapter: Its optimization config says what is good (without one the choice is random), its
            experiment which arm is the status quo.
        config: ``{"max_rows": 500, "seed": 0}``.
    """

    def __init__(
        self,
        search_space: SearchSpace | None = None,
        experiment_data: ExperimentData | None = None,
        adapter: Any = None,
        config: Any = None,
    ) -> None:
        super().__init__(search_space, experiment_data, adapter, config)
        options: dict[str, Any] = dict(self.config)
        self.max_rows = int(options.get("max_rows", 500))
        self.seed = int(options.get("seed", 0))

    def transform_experiment_data(self, experiment_data: ExperimentData) -> ExperimentData:
        """The data of the chosen rows."""
        observations: Any = experiment_data.observation_data
        arms = observations.index.droplevel(list(observations.index.names[2:]))
        distinct = arms.unique()
        if len(distinct) <= self.max_rows:
            return experiment_data
        score = self._score(observations).groupby(level=[0, 1]).max().reindex(distinct).to_numpy()
        trials = distinct.get_level_values(0).to_numpy()
        status_quo = getattr(getattr(self.adapter, "_experiment", None), "status_quo", None)
        name = None if status_quo is None else status_quo.name
        keep = np.flatnonzero(distinct.get_level_values(1) == name)
        chosen = distinct[self._choose(trials, score, keep)]
        arm_data = experiment_data.arm_data
        return ExperimentData(
            arm_data=arm_data[arm_data.index.isin(chosen)],
            observation_data=observations[arms.isin(chosen)],
        )

    def _score(self, observations: Any) -> Any:
        """Weighted sum of the objectives in units of their deviation; larger is better."""
        means = observations["mean"]
        config = getattr(self.adapter, "_optimization_config", None)
        score = 0.0 * means.iloc[:, 0].fillna(0.0)
        if config is None:
            return score
        for signature, weight in config.objective.metric_weights:
            if signature in means.columns:
                values = means[signature]
                score = score + weight * (values - values.mean()) / (values.std() or 1.0)
        return score

    def _choose(self, trials: np.ndarray, score: np.ndarray, keep: np.ndarray) -> np.ndarray:
        """Positions of the rows to keep, sorted; among them those that must stay."""
        newer = np.setdiff1d(np.flatnonzero(trials > trials.min()), keep)
        newest = newer[np.argsort(-trials[newer], kind="stable")]
        newest = np.concatenate([keep[-1:], newest])[: self.max_rows // 2]
        rest = np.setdiff1d(np.arange(len(trials)), newest)
        rest = rest[np.argsort(-np.nan_to_num(score[rest], nan=-np.inf), kind="stable")]
        best, others = np.split(rest, [(self.max_rows - len(newest) + 1) // 2])
        random = np.random.default_rng(self.seed)
        places = self.max_rows - len(newest) - len(best)
        sample = random.choice(others, size=places, replace=False)
        return np.sort(np.concatenate([newest, best, sample]))

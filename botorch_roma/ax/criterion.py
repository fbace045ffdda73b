r"""
The moment at which enough results of RoMA's own designs are in.
"""

from __future__ import annotations

from typing import Any

from ax.core.experiment import Experiment
from ax.generation_strategy.transition_criterion import TransitionCriterion


class MinResults(TransitionCriterion):
    r"""Move on once ``threshold`` arms of the current node have been measured.

    Unlike Ax's ``MinTrials`` it counts arms, so a batch of 128 and 128 single trials are alike. An
    arm counts if every metric of the optimization config has a value, in its own trial or in a
    later one, such as a table of results (see :func:`~botorch_roma.ax.attach_offline_data`).

    Args:
        threshold: Number of measured arms.
        transition_to: Name of the next node.
        continue_trial_generation: As for all of Ax's criteria.
    """

    def __init__(
        self,
        threshold: int,
        transition_to: str,
        continue_trial_generation: bool | None = False,
    ) -> None:
        super().__init__(transition_to, continue_trial_generation)
        self.threshold = threshold

    def num_results(self, experiment: Experiment, curr_node: Any) -> int:
        """Measured arms in the trials of a node."""
        trials = curr_node.trials_from_node
        config = experiment.optimization_config
        if not trials or config is None:
            return 0
        first: dict[str, int] = {}
        for index in sorted(trials):
            for arm in experiment.trials[index].arms:
                first.setdefault(arm.name, index)
        df = experiment.lookup_data().df
        df = df[df["metric_name"].isin(config.metric_names) & df["mean"].notna()]
        df = df[df["trial_index"] >= df["arm_name"].map(first)]  # NaN where not of this node
        per_arm = df.groupby("arm_name")["metric_name"].nunique()
        return int((per_arm == len(config.metric_names)).sum())

    def is_met(self, experiment: Experiment, curr_node: Any) -> bool:
        """Whether enough arms have been measured."""
        return self.num_results(experiment, curr_node) >= self.threshold

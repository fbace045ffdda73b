r"""
AntMorphology: the body of a four-legged robot that a fixed policy makes run.

The task is that of Design-Bench [Trabucco2022design]_ with a table and a policy made anew; its
oracle runs the policy in the environment of the package ``morphing-agents`` on the current MuJoCo.

.. [Trabucco2022design]
    B. Trabucco, X. Geng, A. Kumar, and S. Levine. Design-Bench: Benchmarks for Data-Driven
    Offline Model-Based Optimization. ICML, 2022.
"""

from __future__ import annotations

import torch

from botorch_roma.tasks.ant_simulator import NUM_LEGS, AntSimulator
from botorch_roma.tasks.arrays import (
    Array,
    Edition,
    PathLike,
    find_files,
    known_checksum,
    read_archive,
    read_array,
    read_table,
    split_table,
)
from botorch_roma.tasks.offline_task import OfflineTask
from botorch_roma.tasks.rollouts import RolloutOracle

#: Lower and upper bound of the 15 numbers of a leg: metres, degrees for angles.
LEG_BOUNDS = {
    "x": (-0.1, 0.1),
    "y": (-0.1, 0.1),
    "z": (-0.1, 0.1),
    "a": (-180.0, 180.0),
    "b": (-180.0, 180.0),
    "c": (-180.0, 180.0),
    "hip_center": (-180.0, 180.0),
    "hip_range": (5.0, 45.0),
    "thigh_center": (-180.0, 180.0),
    "thigh_range": (5.0, 45.0),
    "ankle_center": (-180.0, 180.0),
    "ankle_range": (5.0, 45.0),
    "hip_size": (0.1, 0.4),
    "thigh_size": (0.1, 0.4),
    "ankle_size": (0.2, 0.8),
}

# Of the perturbed rows alone.
ANT_EDITIONS = {
    8_000: Edition(
        3_200,
        122.55461,
        "The original table and policy cannot be had: other designs, another policy and another "
        "scale of y, so nothing compares with published values.",
    )
}
ANT_SOURCE = (
    "Generated with PPO in the environment of morphing-agents 1.5.1 (MIT) on MuJoCo 4.0.0 "
    "(Apache 2.0), in the layout of Design-Bench (Trabucco et al. 2022, MIT)."
)


def load_ant(
    data_dir: PathLike | None = None,
    *,
    dtype: torch.dtype = torch.double,
    verify_checksums: bool = True,
    num_rollouts: int = 8,
    seed: int = 0,
    num_workers: int = 1,
) -> OfflineTask:
    r"""Ant: four legs of 15 numbers each, the return of a policy on that body. A SUBSTITUTE.

    The table holds the default body under normal perturbations of five sizes. The visible rows are
    those with ``y`` up to the 40th percentile, 3,200 of 8,000, best 122.6; so the default body,
    worth about 265, and its neighbourhood are hidden. The 2,000 uniform designs beside them in the
    files are left out, for the best ones exploit the simulator.

    The oracle is an ``AntSimulator``: a mean over starts, because the return is chaotic, and the
    lowest value of the table for a body that flies. The ``"full"`` scale is the range of the 8,000
    rows, (22.8, 370.4). These are single rollouts, the luckiest of them on top: the best mean that
    is known is about 300.

    Args:
        data_dir: Folder that holds ``ant_morphology/``. Default: the environment variable
            ``BOTORCH_ROMA_DATA``, then ``~/.cache/botorch_roma``.
        dtype: Floating point dtype of the task. Default: ``torch.double``.
        verify_checksums: Whether the files must be the known ones, byte for byte. Default: True.
        num_rollouts: Rollouts that the oracle averages. Default: 8.
        seed: Seed of the starts of the rollouts, the same for all designs. Default: 0.
        num_workers: Processes of the oracle; its values do not depend on it. Default: 1.

    Returns:
        The task, bounded by ``LEG_BOUNDS``.

    Raises:
        FileNotFoundError: If a file is missing.
        ValueError: If a file is damaged or another one than expected.
        ImportError: On the first ``evaluate``, if MuJoCo or morphing-agents is not installed.
    """
    x, y, policy = _read(data_dir, verify_checksums)
    visible, edition = split_table(y, 40, ANT_EDITIONS, "ant")
    full = (float(y.min()), float(y.max()))
    bounds = torch.tensor(list(LEG_BOUNDS.values()) * NUM_LEGS, dtype=dtype).T.contiguous()
    return OfflineTask(
        name="ant",
        X=torch.from_numpy(x[visible]).to(dtype),
        Y=torch.from_numpy(y[visible]).to(dtype).unsqueeze(-1),
        bounds=bounds,
        oracle=RolloutOracle(
            AntSimulator(policy, failed_value=full[0]),
            num_rollouts=num_rollouts,
            seed=seed,
            num_workers=num_workers,
        ),
        ranges={"full": full},
        description=(
            "Return of a policy on a body of four legs with 15 numbers each; perturbations of the "
            "default body up to the 40th percentile are visible, exact oracle, mean of "
            f"{num_rollouts} rollouts."
        ),
        substitute=edition.substitute,
        provenance=ANT_SOURCE,
    )


def _read(data_dir: PathLike | None, verify: bool) -> tuple[Array, Array, dict[str, Array]]:
    """Designs and values of the perturbed rows, and the policy."""
    x, y = read_table("ant_morphology/ant_morphology", data_dir, ANT_SOURCE, verify)
    names = ["ant_morphology/ant_morphology-kind.npy", "ant_morphology/ant_policy.npz"]
    kind_path, policy_path = find_files(names, data_dir, ANT_SOURCE)
    kind_sum, policy_sum = (known_checksum(name) if verify else None for name in names)
    kind = read_array(kind_path, kind_sum)
    if kind.shape != y.shape or x.shape[1] != NUM_LEGS * len(LEG_BOUNDS):
        raise ValueError(
            f"`data_dir`: the table of task 'ant' must hold {NUM_LEGS * len(LEG_BOUNDS)} columns "
            f"and {kind_path.name} one number for each of its {len(y)} rows, received shapes "
            f"{x.shape} and {kind.shape}; fetch the files anew."
        )
    perturbed = kind >= 0  # -1 is the uniform family
    return x[perturbed], y[perturbed], read_archive(policy_path, policy_sum)

r"""
Published figures, to stand beside measured ones.

``PAPER_*`` are the raw scores of the tables of [Yu2021roma]_ (Design-Bench 1.4: other data and
oracles than release 2). ``RERUNS`` are re-runs on release 2, on its ``full`` scale, from the
literature: RGD (Chen et al., 2024; "re-run 1"), Tan et al. (ICLR 2025; "re-run 2" and the rows down
to RaM-ListNet), ROOT (2025).
"""

from __future__ import annotations

#: The tasks of the paper's tables, in their order.
PAPER_TASKS: tuple[str, ...] = ("gfp", "molecule", "superconductor", "hopper", "ant", "dkitty")

#: Best visible design of every task.
PAPER_MAX: tuple[float, ...] = (3.152, 6.558, 73.90, 1361.6, 108.5, 215.9)

#: Range of the visible data of every task, recomputed from the paper's averages.
PAPER_WIDTH: tuple[float, ...] = (0.401, 2.653, 74.4, 1273.8, 240.5, 204.2)

#: Raw scores by percentile and method.
PAPER_SCORES: dict[int, dict[str, tuple[float, ...]]] = {
    100: {
        "CbAS": (3.408, 6.301, 72.17, 547.1, 393.0, 396.1),
        "Autofocus": (3.365, 6.345, 77.07, 443.8, 386.9, 376.3),
        "NEMO": (3.359, 6.682, 127.0, 2130.1, 393.7, 431.6),
        "MINs": (3.315, 6.508, 80.23, 746.1, 388.5, 352.9),
        "COMs": (3.305, 6.876, 110.0, 2395.7, 378.8, 341.4),
        "gradient ascent": (2.894, 6.636, 89.64, 1050.8, 399.9, 390.7),
        "RoMA": (3.357, 6.890, 103.9, 2466.5, 468.5, 384.3),
    },
    50: {
        "CbAS": (3.269, 5.472, 32.21, 132.5, 267.3, 203.2),
        "Autofocus": (3.216, 5.759, 31.57, 116.4, 176.7, 199.3),
        "NEMO": (3.219, 5.814, 66.41, 390.2, 326.9, 180.8),
        "MINs": (3.135, 5.806, 37.32, 520.4, 184.8, 211.6),
        "gradient ascent": (2.894, 6.401, 54.06, 185.0, 318.0, 255.3),
        "RoMA": (3.230, 6.160, 68.99, 560.1, 370.8, 252.4),
    },
}

#: The ``Avg.`` column of the paper, by percentile and method.
PAPER_AVERAGES: dict[int, dict[str, float]] = {
    100: {
        "CbAS": 1.324,
        "Autofocus": 1.286,
        "NEMO": 1.687,
        "MINs": 1.304,
        "COMs": 1.589,
        "gradient ascent": 1.237,
        "RoMA": 1.705,
    },
    50: {
        "CbAS": 0.826,
        "Autofocus": 0.752,
        "NEMO": 0.960,
        "MINs": 0.803,
        "gradient ascent": 0.862,
        "RoMA": 1.103,
    },
}

#: Method: task: (100th, 50th percentile), on the ``full`` scale; None where it is not given.
RERUNS: dict[str, dict[str, tuple[float, float | None]]] = {
    "RoMA, re-run 1": {
        "tfbind8": (0.927, 0.543),
        "tfbind10": (0.676, 0.518),
        "superconductor": (0.507, 0.364),
        "ant": (0.898, 0.467),
        "dkitty": (0.928, 0.850),
    },
    "RoMA, re-run 2": {
        "tfbind8": (0.665, 0.520),
        "tfbind10": (0.553, 0.516),
        "superconductor": (0.494, 0.368),
        "ant": (0.430, 0.193),
        "dkitty": (0.767, 0.344),
    },
    "gradient ascent": {
        "tfbind8": (0.969, 0.582),
        "tfbind10": (0.646, 0.470),
        "superconductor": (0.510, 0.471),
        "ant": (0.273, 0.136),
        "dkitty": (0.853, 0.581),
    },
    "gradient ascent, minimum of an ensemble": {
        "tfbind8": (0.979, None),
        "tfbind10": (0.632, None),
        "superconductor": (0.514, None),
        "ant": (0.282, None),
        "dkitty": (0.884, None),
    },
    "COMs": {
        "tfbind8": (0.953, 0.513),
        "tfbind10": (0.644, 0.474),
        "superconductor": (0.460, 0.376),
        "ant": (0.916, 0.532),
        "dkitty": (0.949, 0.882),
    },
    "CbAS": {
        "tfbind8": (0.921, None),
        "tfbind10": (0.630, None),
        "superconductor": (0.421, None),
        "ant": (0.846, None),
        "dkitty": (0.896, None),
    },
    "MINs": {
        "tfbind8": (0.910, None),
        "tfbind10": (0.633, None),
        "superconductor": (0.464, None),
        "ant": (0.906, None),
        "dkitty": (0.939, None),
    },
    "BDI": {
        "tfbind8": (0.973, 0.595),
        "tfbind10": (0.658, 0.429),
        "superconductor": (0.508, 0.389),
        "ant": (0.963, 0.569),
        "dkitty": (0.941, 0.876),
    },
    "RaM-ListNet": {
        "tfbind8": (0.981, 0.552),
        "tfbind10": (0.670, 0.467),
        "superconductor": (0.517, 0.359),
        "ant": (0.949, 0.579),
        "dkitty": (0.962, 0.888),
    },
    "ROOT": {
        "tfbind8": (0.986, None),
        "tfbind10": (0.685, None),
        "ant": (0.965, None),
        "dkitty": (0.972, None),
    },
}

r"""
Offline tasks: a dataset measured once, and an oracle that scores finished batches only.

A task knows no method, and no method reaches the oracle of a task.
"""

from botorch_roma.tasks.design_bench_adapter import from_design_bench
from botorch_roma.tasks.offline_task import OfflineTask
from botorch_roma.tasks.registry import TASKS, TaskInfo, load_task
from botorch_roma.tasks.synthetic import make_synthetic_task

__all__ = [
    "TASKS",
    "OfflineTask",
    "TaskInfo",
    "from_design_bench",
    "load_task",
    "make_synthetic_task",
]

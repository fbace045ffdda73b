r"""
The comparison methods of the field's tables: a task's visible data in, ``q`` candidates out.

They work on vectors (:class:`~botorch_roma.baselines.space.DesignSpace`), are built on the shared
network, and never ask the oracle: hand them ``task.without_oracle()``.
"""

from botorch_roma.baselines.cma_es import cma_es
from botorch_roma.baselines.coms import coms
from botorch_roma.baselines.gradient_ascent import gradient_ascent

__all__ = ["cma_es", "coms", "gradient_ascent"]

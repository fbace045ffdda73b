r"""
The comparison methods of the field's tables: a task's visible data in, ``q`` candidates out.

They work on vectors (:class:`~botorch_roma.baselines.space.DesignSpace`), are built on the shared
network and VAE, and cannot reach the oracle. The defaults are the published hyperparameters.
"""

from botorch_roma.baselines.autofocused_cbas import autofocused_cbas
from botorch_roma.baselines.bo_qei import bo_qei
from botorch_roma.baselines.cbas import cbas
from botorch_roma.baselines.cma_es import cma_es
from botorch_roma.baselines.coms import coms
from botorch_roma.baselines.ensemble import ProxyOptions
from botorch_roma.baselines.gradient_ascent import gradient_ascent
from botorch_roma.baselines.mins import mins
from botorch_roma.baselines.nemo import nemo
from botorch_roma.baselines.vae import VAEOptions

__all__ = [
    "ProxyOptions",
    "VAEOptions",
    "autofocused_cbas",
    "bo_qei",
    "cbas",
    "cma_es",
    "coms",
    "gradient_ascent",
    "mins",
    "nemo",
]

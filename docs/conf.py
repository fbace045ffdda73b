r"""
The documentation site: ``bash .ci/docs`` builds it from these pages and the docstrings.

The source folder is the root of the project, so that a relative link means the same on the site
and where the code is hosted. Nothing here needs the network, and no page loads anything from it.
"""

from __future__ import annotations

import sys
from pathlib import Path

import botorch_roma

sys.path.insert(0, str(Path(__file__).resolve().parent))  # extension.py

project = "botorch_roma"
author = "The botorch_roma authors"
release = version = botorch_roma.__version__
language = "en_GB"

root_doc = "docs/index"
include_patterns = [
    "docs/**.md",
    "docs/**.rst",
    "benchmarks/results/README.md",
    "benchmarks/results/all_tasks.md",
    "benchmarks/results/allocations.md",
    "benchmarks/results/compiled.md",
    "benchmarks/results/cuda_graphs.md",
    "benchmarks/results/selection_criteria.md",
    "benchmarks/results/settings_map/table.md",
    "benchmarks/results/speed_calibration.md",
    "benchmarks/results/speed_cpu.md",
    "benchmarks/results/speed_gpu.md",
    "benchmarks/results/speed_targets.md",
    "benchmarks/results/speed_targets_earlier.md",
    "benchmarks/results/development/report.md",
    "tutorials/*/*.ipynb",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
]
exclude_patterns = [".*", "build", "dist", "botorch_roma", "tests"]  # not even walked through
extensions = [
    "myst_nb",  # myst_parser, and the notebooks
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "extension",
]

myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 3
nb_execution_mode = "off"  # what is stored is shown; .ci/tutorials executes

autodoc_default_options = {"members": True, "member-order": "bysource", "show-inheritance": True}
autodoc_preserve_defaults = True
autodoc_typehints_format = "short"
viewcode_follow_imported_members = False
napoleon_numpy_docstring = False
napoleon_use_ivar = True
maximum_signature_line_length = 90
python_use_unqualified_type_names = True

nitpicky = True
suppress_warnings = ["myst.header"]  # tables that a benchmark wrote begin where they please

html_theme = "furo"
html_static_path = ["style"]
html_css_files = ["site.css"]
html_title = f"botorch_roma {release}"
html_show_copyright = False
html_copy_source = html_show_sourcelink = False
html_math_renderer = "mathml"

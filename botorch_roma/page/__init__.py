"""One self-contained HTML page for a run of ``propose``. Needs the extra ``report``."""

from botorch_roma.page.html import check_page, write_page
from botorch_roma.page.run import Run

__all__ = ["Run", "check_page", "write_page"]

"""Program files -> executed notebooks -> outputs.

``run`` plans and schedules (``runner``), a worker process walks each job (``job``): the notebook's doors are
checked (``notebook``), papermill executes it, the copy is cleaned, held at the disclosure gate and swapped in
(``publish``) together with its page (``page``).
"""

from ldlab.batch.job import BRIEF, PORTFOLIO, JobResult
from ldlab.batch.notebook import check_doors
from ldlab.batch.progress import Event, Progress, shown
from ldlab.batch.runner import Summary, plan, run

__all__ = [
    "BRIEF",
    "PORTFOLIO",
    "Event",
    "JobResult",
    "Progress",
    "Summary",
    "check_doors",
    "plan",
    "run",
    "shown",
]

"""The executable on a machine that says it has more cores: a task counts as one at least, and a small machine would
otherwise never have as many under way as a daemon can start. Nothing else of it is other than it is.

python contrib/bench/wide.py CORES WORDS…
"""

import sys

from kohakuriver.__main__ import main
from kohakuriver.runner.probes import numa

cores = range(int(sys.argv.pop(1)))
real = numa.cells


def cells(**more: int) -> list[numa.WireCell]:
    """One cell with all the memory."""
    memory = sum(cell.memory for cell in real(**more))
    return [numa.WireCell(cpus=list(cores), siblings=list(cores), memory=memory)]


numa.cells = cells  # type: ignore[assignment]
sys.exit(main())

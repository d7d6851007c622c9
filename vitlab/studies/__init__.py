"""Studies: one measurement under many settings and seeds, kept run by run in one CSV file.

A row has the settings, the results, and what is needed to make it again: the seconds it took, status (done or
failed) and message, the command for this row alone, the commit and the machine. Where several rates were
tried, it says whether the best is at an edge of them. `shortcomings` reads what a file still lacks.
"""

from vitlab.studies.command import add_arguments, add_options, from_command_line, read_only, report
from vitlab.studies.rates import at_best_rate
from vitlab.studies.rows import Row, Value, read_results, read_rows, read_value
from vitlab.studies.running import Study, chosen, code_version, grid, rows_of, run_study
from vitlab.studies.standard import shortcomings
from vitlab.studies.summarising import by_seed, summarise, table

__all__ = [
    "Row",
    "Study",
    "Value",
    "add_arguments",
    "add_options",
    "at_best_rate",
    "by_seed",
    "chosen",
    "code_version",
    "from_command_line",
    "grid",
    "read_only",
    "read_results",
    "read_rows",
    "read_value",
    "report",
    "rows_of",
    "run_study",
    "shortcomings",
    "summarise",
    "table",
]

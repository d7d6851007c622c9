"""`python -m vitlab.fine_tuning study …`: the studies of lesson 05 from a shell."""

import argparse

from vitlab import studies
from vitlab.fine_tuning.studies import STUDIES

PROGRAM = "python -m vitlab.fine_tuning"


def main(arguments: list[str] | None = None) -> None:
    """Run the studies of lesson 05."""
    parser = argparse.ArgumentParser(prog=PROGRAM, description=main.__doc__, allow_abbrev=False)
    commands = parser.add_subparsers(required=True, dest="command")
    study = commands.add_parser("study", help="run studies, or go on with them", allow_abbrev=False)
    studies.add_arguments(study, STUDIES)
    options = parser.parse_args(arguments)
    try:
        studies.from_command_line(options, STUDIES, f"{PROGRAM} study")
    except ValueError as error:
        study.error(str(error))


if __name__ == "__main__":
    main()

"""`python -m vitlab.checks report FOLDER`: mark a folder of submitted notebooks."""

from vitlab.checks.reports.report import main

if __name__ == "__main__":
    main()

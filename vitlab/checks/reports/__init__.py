"""Marking: `report` a folder of submitted notebooks, each a `submission`, run in a `kernel` of its own."""

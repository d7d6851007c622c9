"""What is asked: a file for each lesson and, where numbers have to be derived, a function `derive`.

`01_patching.toml` is edited with any editor, without Python; `vitlab.checks.asking.sheet` says how it is
written. The module of the same name, `patching.py`, has `derive`: it takes the numbers of `[run]` by name and
returns those that follow from them.
"""

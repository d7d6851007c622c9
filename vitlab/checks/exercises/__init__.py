"""The exercises: a package for each lesson, in it a module for each exercise. See `vitlab.checks`."""

"""Fuzzers of everything that reads files: `python -m tests.fuzz`.

A module tests/fuzz/fuzz_*.py has a function `targets()` that returns, by name, a list of good
inputs and a function that reads one and raises what its contract allows, `driver.ALLOWED`.
"""

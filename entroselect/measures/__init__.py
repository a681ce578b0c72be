"""Measures of one set of rows against another; each file has one family."""

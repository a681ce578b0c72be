"""Triton kernels: what is a matrix product. Importing this needs the package triton."""

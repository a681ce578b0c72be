"""The Triton kernels, which are matrix products. Importing this needs the package triton."""

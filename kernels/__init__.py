"""Device code (Triton and CUDA). Nothing here yet: the engine runs on the CPU, see docs/status.md."""

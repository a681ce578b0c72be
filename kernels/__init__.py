"""Device code (Triton and CUDA). Empty so far: the engine runs on the CPU; see docs/status.md."""

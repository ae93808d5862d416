"""Build, check and prove NVIDIA Triton Inference Server for ARM boards."""

__version__ = "0.1.0"

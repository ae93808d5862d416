"""From a plan to scripts that run without tritonbuild; pure."""

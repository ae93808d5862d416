"""Steps in order, once, resumable."""

"""The proof that the stage works."""

"""Patches: checked before a build, applied and undone exactly, shown as diffs."""

"""Everything that comes from outside, checked."""

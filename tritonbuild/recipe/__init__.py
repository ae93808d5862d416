"""Recipes: what may be said in them, and how they are read."""

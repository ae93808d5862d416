"""JSON Schema of each kind of recipe, derived from the models."""

from __future__ import annotations

from typing import Any

from tritonbuild.recipe.model import RECIPE_KINDS
from tritonbuild.recipe.patch import Patch


def make_schema(kind: str) -> dict[str, Any]:
    """Return the schema of a kind (`boards`, ...; `patch` for files below patches/)."""
    model = Patch if kind == "patch" else RECIPE_KINDS[kind]
    schema = model.model_json_schema(by_alias=True)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


def make_schemas() -> dict[str, dict[str, Any]]:
    """Return the schema of every kind, by its name."""
    return {kind: make_schema(kind) for kind in (*sorted(RECIPE_KINDS), "patch")}

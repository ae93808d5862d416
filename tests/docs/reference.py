"""The field tables of docs/recipes.md, made from the models.

Run `python tests/docs/reference.py` after a change of tritonbuild/recipe/model.py: it writes the
tables anew. A test compares.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from tritonbuild.recipe.schema import make_schemas

DOCUMENT = Path(__file__).parents[2] / "docs" / "recipes.md"
BLOCK = re.compile(r"(<!-- fields of (\w+) -->\n).*?(<!-- end of fields -->)", re.DOTALL)


def format_tables(schema: dict[str, Any]) -> str:
    """Return a table of the recipe's own keys and one of each part's, in the order of use."""
    definitions: dict[str, Any] = schema.get("$defs", {})
    lines = _format_table(schema, definitions)
    for name in _order_of_use(schema, definitions):
        lines += ["", f"`{name}`: {_first_line(definitions[name])}", ""]
        lines += _format_table(definitions[name], definitions)
    return "\n".join(lines) + "\n"


def _first_line(node: dict[str, Any]) -> str:
    return str(node.get("description", "")).splitlines()[0]


def _format_table(node: dict[str, Any], definitions: dict[str, Any]) -> list[str]:
    required = set(node.get("required", ()))
    rows = ["| key | type | must | meaning |", "| --- | --- | --- | --- |"]
    for key, field in node["properties"].items():
        must = "yes" if key in required else ""
        meaning = " ".join(str(field.get("description", "")).split()).replace("|", "\\|")
        rows.append(f"| `{key}` | {_format_type(field, definitions)} | {must} | {meaning} |")
    return rows


def _format_type(field: dict[str, Any], definitions: dict[str, Any]) -> str:
    if "anyOf" in field:
        options = [o for o in field["anyOf"] if o.get("type") != "null"]
        return " or ".join(dict.fromkeys(_format_type(o, definitions) for o in options))
    if "$ref" in field:
        name = field["$ref"].rsplit("/", 1)[1]
        return f"`{name}`" if "properties" in definitions[name] else _choices(definitions[name])
    if "enum" in field or "const" in field:
        return _choices(field)
    kind = field.get("type")
    if kind == "array":
        return f"list of {_format_type(field['items'], definitions)}"
    if kind == "object":
        values = field.get("additionalProperties")
        inner = _format_type(values, definitions) if isinstance(values, dict) else "text"
        return f"mapping to {inner}"
    return {
        "string": "text",
        "integer": "number",
        "number": "number",
        "boolean": "true or false",
    }.get(kind, "text")


def _choices(field: dict[str, Any]) -> str:
    values = field.get("enum", [field.get("const")])
    return " or ".join(f"`{value}`" for value in values)


def _order_of_use(schema: dict[str, Any], definitions: dict[str, Any]) -> list[str]:
    found: list[str] = []

    def visit(node: dict[str, Any]) -> None:
        for name in re.findall(r"#/\$defs/(\w+)", str(node.get("properties", {}))):
            if name not in found and "properties" in definitions[name]:
                found.append(name)
                visit(definitions[name])

    visit(schema)
    return found


def refresh(text: str) -> str:
    """Return the document with its tables made anew."""
    schemas = make_schemas()

    def replace(match: re.Match[str]) -> str:
        return f"{match[1]}\n{format_tables(schemas[match[2]])}\n{match[3]}"

    return BLOCK.sub(replace, text)


if __name__ == "__main__":
    DOCUMENT.write_text(refresh(DOCUMENT.read_text(encoding="utf-8")), encoding="utf-8")

"""The JSON Schemas that editors use: fresh, and right about every shipped file."""

from __future__ import annotations

import json
import re
from pathlib import Path

import jsonschema
import pytest
import yaml

REPOSITORY = Path(__file__).parents[2]
SCHEMAS = REPOSITORY / "recipes" / "schema"
FILES = sorted(
    path for folder in ("recipes", "patches") for path in (REPOSITORY / folder).rglob("*.yaml")
)
KINDS = ("boards", "components", "failures", "mirrors", "models", "npus", "os", "patch", "releases")


@pytest.mark.parametrize("kind", KINDS)
def test_committed_schema_is_what_the_command_prints(cli, kind):
    committed = (SCHEMAS / f"{kind}.json").read_text(encoding="utf-8")
    fresh = cli("schema", kind).out
    assert committed == fresh, f"run `tritonbuild schema {kind} > recipes/schema/{kind}.json`"


@pytest.mark.parametrize("kind", KINDS)
def test_schema_is_a_schema(kind):
    schema = json.loads((SCHEMAS / f"{kind}.json").read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator.check_schema(schema)


@pytest.mark.parametrize("path", FILES, ids=[str(p.relative_to(REPOSITORY)) for p in FILES])
def test_shipped_file_is_valid_for_editors(path):
    """Editors read YAML with its own types: `8` is a number there, and `2024-01-30` is not text."""
    text = path.read_text(encoding="utf-8")
    line = text.splitlines()[0]
    found = re.fullmatch(r"# yaml-language-server: \$schema=(\S+)", line)
    assert found, "the first line names the schema"
    schema_path = (path.parent / found.group(1)).resolve()
    expected = "patch" if path.is_relative_to(REPOSITORY / "patches") else path.parent.name
    assert schema_path == SCHEMAS / f"{expected}.json"
    schema = json.loads(schema_path.read_text(encoding="utf-8"))
    jsonschema.validate(yaml.load(text, _Core), schema)


class _Core(yaml.SafeLoader):
    """YAML 1.2's core schema, which the editors' language server follows: no dates, no on/off."""


_Core.yaml_implicit_resolvers = {}
_Core.add_implicit_resolver(
    "tag:yaml.org,2002:null", re.compile(r"^(~|null|Null|NULL|)$"), ["~", "n", "N", ""]
)
_Core.add_implicit_resolver(
    "tag:yaml.org,2002:bool", re.compile(r"^(true|True|TRUE|false|False|FALSE)$"), list("tTfF")
)
_Core.add_implicit_resolver(
    "tag:yaml.org,2002:int", re.compile(r"^[-+]?[0-9]+$"), list("-+0123456789")
)
_Core.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?$"),
    list("-+0123456789."),
)


@pytest.mark.parametrize(
    "broken",
    [
        pytest.param("memry: 2GiB", id="unknown-key"),
        pytest.param("arch: riscv64", id="no-choice"),
        pytest.param("memory: 8", id="size-without-unit"),
        pytest.param("os: []", id="empty-list"),
    ],
)
def test_schema_refuses_what_the_loader_refuses(broken):
    schema = json.loads((SCHEMAS / "boards.json").read_text(encoding="utf-8"))
    content = yaml.load((REPOSITORY / "recipes/boards/orangepi5b.yaml").read_text(), _Core)
    jsonschema.validate(content, schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(content | yaml.load(broken, _Core), schema)

"""Prometheus' text format, as far as a server's own metrics use it."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

# https://prometheus.io/docs/instrumenting/exposition_formats/#text-based-format
_NAME = r"[a-zA-Z_:][a-zA-Z0-9_:]*"
_LABEL = re.compile(r'\s*([a-zA-Z_][a-zA-Z0-9_]*)\s*=\s*"((?:[^"\\]|\\.)*)"\s*(?:,|$)')
_SAMPLE = re.compile(
    rf'({_NAME})\s*(?:\{{((?:[^"}}]|"(?:[^"\\]|\\.)*")*)\}})?\s+(\S+)(?:\s+-?\d+)?'
)
_ESCAPES = {r"\\": "\\", r"\"": '"', r"\n": "\n"}


@dataclass(frozen=True)
class Sample:
    """One value."""

    name: str
    value: float
    labels: dict[str, str] = field(default_factory=dict)


def parse_metrics(text: str) -> list[Sample]:
    """Return the samples of a metrics page.

    Raises:
        ValueError: A line is neither a sample nor a comment; the message holds it.
    """
    samples = []
    for line in text.splitlines():
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        found = _SAMPLE.fullmatch(line.strip())
        if found is None:
            msg = f"not a line of Prometheus' text format: {line!r}"
            raise ValueError(msg)
        name, labels, value = found.groups()
        samples.append(Sample(name, float(value), _parse_labels(labels or "")))
    return samples


def _parse_labels(text: str) -> dict[str, str]:
    labels = {}
    at = 0
    while at < len(text):
        found = _LABEL.match(text, at)
        if found is None:
            msg = f"not a list of labels: {text!r}"
            raise ValueError(msg)
        name, value = found.groups()
        labels[name] = re.sub(r"\\.", lambda part: _ESCAPES.get(part[0], part[0]), value)
        at = found.end()
    return labels

"""Fill in a shipped template; a value that is missing is an error, never an empty place."""

from __future__ import annotations

import traceback
from typing import TYPE_CHECKING

from tritonbuild.errors import RenderError
from tritonbuild.paths import data_dir

if TYPE_CHECKING:
    from collections.abc import Mapping


_INSTALL_HINT = "the installation is damaged: install tritonbuild again"


def render_template(
    name: str, values: Mapping[str, object], *, delimiters: Mapping[str, str] | None = None
) -> str:
    """Return a template below templates/ with its values filled in.

    Args:
        name: Its path below templates/.
        values: What it may name.
        delimiters: jinja2's options of these names, for texts that use double braces themselves.

    Raises:
        RenderError: It does not exist, is malformed, or wants a value that is not there; the
            message names template and line.
    """
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(data_dir("templates")),
        undefined=jinja2.StrictUndefined,
        keep_trailing_newline=True,
        trim_blocks=True,
        lstrip_blocks=True,
        autoescape=False,
        **(delimiters or {}),  # type: ignore[arg-type]
    )
    try:
        return environment.get_template(name).render(values)
    except jinja2.TemplateNotFound as err:
        msg = f"templates/{err.name}: no such template"
        raise RenderError(msg, hint=_INSTALL_HINT) from err
    except jinja2.TemplateSyntaxError as err:
        msg = f"templates/{err.name}:{err.lineno}: {err.message}"
        raise RenderError(msg, hint=_INSTALL_HINT) from err
    except jinja2.TemplateError as err:
        msg = f"templates/{name}:{_find_line(err, name)}: {err.message}"
        raise RenderError(msg, hint="the template and the values for it differ") from err


def _find_line(err: Exception, name: str) -> int:
    """Return the template's line that an error came from; jinja2 puts it into the traceback."""
    frames = traceback.extract_tb(err.__traceback__)
    return next((f.lineno or 0 for f in reversed(frames) if f.filename.endswith(name)), 0)

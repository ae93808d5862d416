"""A JPEG's pixels, as a model wants them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tritonbuild.smoke.trial import CheckSkippedError

if TYPE_CHECKING:
    from pathlib import Path


def read_pixels(path: Path, size: tuple[int, int]) -> bytes:
    """Return a picture's pixels, row by row, three bytes (red, green, blue) each.

    Args:
        path: The picture.
        size: Height and width that the model takes; another picture is stretched, as the demo does.

    Raises:
        CheckSkippedError: Pillow is not installed, or cannot read the picture.
    """
    try:
        from PIL import Image, UnidentifiedImageError
    except ImportError as err:
        msg = f"{err}; pip install 'tritonbuild[rknn]'"
        raise CheckSkippedError(msg) from None
    try:
        with Image.open(path) as picture:
            height, width = size
            return bytes(picture.convert("RGB").resize((width, height)).tobytes())
    except (OSError, UnidentifiedImageError) as err:
        msg = f"{path.name} is no picture that Pillow reads: {err}"
        raise CheckSkippedError(msg) from None

"""Pictures that are small enough to be kept in git."""

import tempfile
from pathlib import Path

from PIL import Image


def keep(target, draw):
    """Write what ``draw(path)`` makes as PNG with a palette: a third of the bytes."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "picture.png"
        draw(path)
        picture = Image.open(path).convert("RGB")
        picture.quantize(256, dither=Image.Dither.NONE).save(target, optimize=True)

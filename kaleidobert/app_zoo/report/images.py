"""Pictures inside of a page: as WebP in data addresses, as wide as the size of the page allows."""

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, UnidentifiedImageError

WIDTHS = (1600, 1200, 900, 640)  # of a chart or sheet, in pixels: the first with which all of them fit
QUALITY = 82


@dataclass(frozen=True)
class Embedded:
    """A picture for <img>. width, height: in pixels; original: its width before it was made smaller."""

    address: str
    width: int
    height: int
    original: int


def embed(pictures: Sequence[Path | Image.Image], room: float) -> tuple[dict[int, Embedded], list[str]]:
    """Returns ({place in ``pictures``: the picture}, a line for each that is left out).

    room: bytes that all addresses together may take; where they do not even at the least width, the largest are left out. A picture that
    cannot be read is left out, too.
    """
    opened, lines = _opened(pictures)
    made: dict[int, Embedded] = {}
    for width in WIDTHS:
        made = {place: _encoded(image, width) for place, image in opened.items()}
        if _size(made) <= room:
            break
    for place in sorted(made, key=lambda place: -len(made[place].address)):
        if _size(made) <= room:
            break
        del made[place]
        where = pictures[place]
        lines.append(f"{where if isinstance(where, Path) else 'a picture'}: left out, for the page would be too large (max_megabytes)")
    return made, lines


def _opened(pictures: Sequence[Path | Image.Image]) -> tuple[dict[int, Image.Image], list[str]]:
    opened, lines = {}, []
    for place, picture in enumerate(pictures):
        try:
            if isinstance(picture, Path):
                with Image.open(picture) as image:
                    opened[place] = image.convert("RGB")
            else:
                opened[place] = picture.convert("RGB")
        except (OSError, UnidentifiedImageError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
            lines.append(f"{picture}: damaged, no picture ({error})")
    return opened, lines


def _encoded(image: Image.Image, width: int) -> Embedded:
    original = image.width
    if image.width > width:
        image = image.resize((width, max(1, round(image.height * width / image.width))), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    image.save(buffer, "WEBP", quality=QUALITY, method=2)
    return Embedded(f"data:image/webp;base64,{base64.b64encode(buffer.getvalue()).decode()}", image.width, image.height, original)


def _size(made: Mapping[int, Embedded]) -> int:
    return sum(len(one.address) for one in made.values())

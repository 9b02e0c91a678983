"""The Product contract: what every source of products yields, and how a picture is read."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from kaleidobert.errors import UserError

MAX_PIXELS = 100_000_000  # beyond this a file is more likely a decompression bomb than a product picture


@dataclass(frozen=True)
class Part:
    """A described part of a product and where it is: box = (x1, y1, x2, y2) in pixels, x2 and y2 exclusive."""

    word: str
    box: tuple[float, float, float, float]


@dataclass(frozen=True)
class Product:
    """One picture of one product with its text and labels.

    product_id names the product, image_id this picture (unique in a source); group joins products that are not independent
    (colour variants, same title): a group never crosses splits and is never its own negative. labels: {column: value}.
    load_image() -> uint8[h, w, 3]; load_mask() -> bool[h, w], the true foreground, where it is known.
    """

    product_id: str
    group: str
    view: str
    split: str
    image_id: str
    image_path: str
    text: str
    labels: Mapping[str, str]
    load_image: Callable[[], np.ndarray]
    load_mask: Callable[[], np.ndarray] | None = None
    parts: tuple[Part, ...] = field(default=())


def read_image(path: str | Path) -> np.ndarray:
    """Decode a picture to uint8[h, w, 3] sRGB, upright; transparency becomes white.

    Reads whatever Pillow reads, CMYK, grey, palette and 16-bit pictures included. Raises UserError for a missing,
    empty, truncated, corrupt or absurdly large file.
    """
    where = str(path)
    try:
        if Path(path).stat().st_size == 0:
            raise UserError("the picture file is empty (0 bytes)", where)
        with Image.open(path) as image:
            width, height = image.size
            if width * height > MAX_PIXELS:
                raise UserError(f"the picture is {width} x {height} pixels", where, f"at most {MAX_PIXELS:,} pixels",
                                "scale it down")
            image.load()
            return _to_rgb(ImageOps.exif_transpose(image))
    except UserError:
        raise
    except FileNotFoundError:
        raise UserError("there is no such picture", where) from None
    except Exception as error:  # Pillow's decoders raise many kinds: OSError, SyntaxError, struct.error, ValueError, ...
        raise UserError(f"the picture cannot be decoded ({error})", where, "a complete picture file") from error


def _to_rgb(image: Image.Image) -> np.ndarray:
    if image.mode.startswith("I") or image.mode == "F":  # 16-bit and wider: scale to 8 bits, Pillow would clip
        values = np.asarray(image, np.float64)
        top = 65535.0 if values.max(initial=0) > 255 else 255.0
        grey = np.clip(values * (255.0 / top), 0, 255).round().astype(np.uint8)
        return np.repeat(grey[:, :, None], 3, axis=2)
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, (255, 255, 255, 255))
        image = Image.alpha_composite(white, image)
    return np.asarray(image.convert("RGB"), np.uint8)

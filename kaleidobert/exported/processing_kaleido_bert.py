"""What a Kaleido-BERT reads of PIL pictures and strings, for transformers: foreground, kaleido patches, boxes, word pieces.

    processor = AutoProcessor.from_pretrained(FOLDER, trust_remote_code=True)
    inputs = processor(images=[picture], text=["red striped t-shirt"])      # pixel_values, patch_boxes; input_ids, ...
    texts = processor.batch_decode(model.generate(...))                      # of a captioner

A picture is turned upright and laid on white, the product is found in it, its box is split into the patches of every level (paper, section
3.1), and each patch is resized to a square. All of this is as it was when the model was trained.
"""

import html
import json
import os
import re
from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageOps
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import BatchFeature, PreTrainedTokenizerFast, ProcessorMixin
from transformers.dynamic_module_utils import custom_object_save
from transformers.utils import cached_file

from .modeling_kaleido_bert import SamePadConv2d

Box = tuple[int, int, int, int]  # x1, y1, x2, y2 in pixels, x2 and y2 exclusive

SETTINGS, NETWORK, TOKENIZER = "preprocessor_config.json", "foreground.safetensors", "tokenizer.json"
SPECIAL = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]", "mask_token": "[MASK]"}
LEARNT = {"image": "pictures alone", "text": "texts alone", "both": "pictures and texts together"}
FROM_HUB = ("cache_dir", "force_download", "local_files_only", "token", "revision", "subfolder")  # of from_pretrained


class KaleidoBertProcessor(ProcessorMixin):
    """Pictures and texts to inputs of a model, and pieces back to texts.

    settings: the content of preprocessor_config.json: levels (name, grid, and whether patches are cut square), patch_size, foreground
    (method "network", "border" or "none", with its settings), text_length, reads ("image", "text" or "both": what has to be given; "any"),
    strip_html (whether markup is taken out of texts) and spacing ({two words or marks: whether they stand without a space between them}).
    foreground_net: for method "network".
    """

    attributes = ["tokenizer"]
    tokenizer_class = "PreTrainedTokenizerFast"

    def __init__(self, tokenizer: PreTrainedTokenizerFast, settings: dict[str, Any], foreground_net: "ForegroundNet | None" = None):
        self.tokenizer, self.settings, self.foreground_net = tokenizer, settings, foreground_net
        self.chat_template = None

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | os.PathLike, **kwargs: Any) -> "KaleidoBertProcessor":
        """Loads it from a folder, or a repository of the Hub."""
        def path(name: str) -> str:
            return cached_file(pretrained_model_name_or_path, name, **{key: kwargs[key] for key in FROM_HUB if key in kwargs})

        with open(path(SETTINGS), encoding="utf-8") as file:
            settings = json.load(file)
        found, network = settings["foreground"], None
        if found["method"] == "network":
            network = ForegroundNet(found["channels"], found["size"])
            network.load_state_dict(load_file(path(NETWORK)))
            network.eval()
        return cls(PreTrainedTokenizerFast(tokenizer_file=path(TOKENIZER), split_special_tokens=True, **SPECIAL), settings, network)

    def to_dict(self) -> dict[str, Any]:
        """Returns the settings."""
        return dict(self.settings)

    def save_pretrained(self, save_directory: str | os.PathLike, **kwargs: Any) -> list[str]:
        """Writes it into a folder, with the files of its code."""
        os.makedirs(save_directory, exist_ok=True)
        with open(os.path.join(save_directory, SETTINGS), "w", encoding="utf-8") as file:
            json.dump(self.settings, file, indent=2, ensure_ascii=False)
        if self.foreground_net is not None:
            save_file(self.foreground_net.state_dict(), os.path.join(save_directory, NETWORK))
        self.tokenizer.save_pretrained(save_directory)
        custom_object_save(self, save_directory)
        return [os.path.join(save_directory, name) for name in os.listdir(save_directory)]

    def __call__(self, images: Any = None, text: str | Sequence[str] | None = None, return_tensors: str | None = "pt",
                 **kwargs: Any) -> BatchFeature:
        """Makes the inputs of a model from pictures and texts, one or several of each, which belong together one by one.

        images: PIL pictures, or arrays uint8[h, w, 3]. Makes pixel_values uint8[B, P, 3, s, s] and patch_boxes [B, P, 5], and input_ids,
        token_type_ids and attention_mask int[B, T]. Raises ValueError where the model has learnt from something else.
        """
        wanted = {"image": (True, False), "text": (False, True), "both": (True, True)}.get(self.settings["reads"])
        if wanted is not None and wanted != (images is not None, text is not None):
            raise ValueError(f"this model has learnt from {LEARNT[self.settings['reads']]}: give these")
        data: dict[str, Any] = {}
        if text is not None:
            data |= self.texts([text] if isinstance(text, str) else list(text))
        if images is not None:
            data |= self.pictures(list(images) if isinstance(images, (list, tuple)) else [images])
        if len({len(array) for array in data.values()}) != 1:
            raise ValueError("give a picture, a text, or as many texts as pictures")
        return BatchFeature(data, tensor_type=return_tensors)

    @property
    def model_input_names(self) -> list[str]:
        """Names of what __call__ makes."""
        return ["input_ids", "token_type_ids", "attention_mask", "pixel_values", "patch_boxes"]

    # --- Texts

    def texts(self, texts: Sequence[str]) -> dict[str, np.ndarray]:
        """Splits texts into word pieces, cut to the model's length: [CLS] text [SEP], then padding."""
        plain = [" ".join((without_markup(text) if self.settings["strip_html"] else text).split()) for text in texts]
        encoded = self.tokenizer(plain, padding=True, truncation=True, max_length=self.settings["text_length"], return_token_type_ids=True)
        return {name: np.array(encoded[name]) for name in ("input_ids", "token_type_ids", "attention_mask")}

    def decode(self, token_ids: Any, **kwargs: Any) -> str:
        """Writes pieces as a text; special ones are left out."""
        special = set(self.tokenizer.all_special_ids)
        pieces = self.tokenizer.convert_ids_to_tokens([int(number) for number in token_ids if int(number) not in special])
        words: list[str] = []
        for piece in pieces:
            if words and piece.startswith("##"):
                words[-1] += piece.removeprefix("##")
            else:
                words.append(piece.removeprefix("##"))
        spaces = ["", *("" if self.touch(left, right) else " " for left, right in pairwise(words))]
        return "".join(space + word for space, word in zip(spaces, words)).strip()

    def batch_decode(self, sequences: Iterable[Any], **kwargs: Any) -> list[str]:
        """Writes rows of pieces as texts."""
        return [self.decode(row) for row in sequences]

    def touch(self, left: str, right: str) -> bool:
        """Whether no space stands between two words or marks: as the same two mostly had it in the training texts, else their kinds."""
        kinds = [[word] * 3 if not word[:1].isalnum() else [word, "9" if word[0].isdigit() else "w", "w"] for word in (left, right)]
        known = (self.settings["spacing"].get(" ".join(pair)) for pair in zip(*kinds))
        return next((joined for joined in known if joined is not None), False)

    # --- Pictures

    def pictures(self, images: Sequence[Any]) -> dict[str, np.ndarray]:
        """Cuts pictures into the patches of all levels, and says where they are."""
        cuts = [self.cut(to_rgb(image if isinstance(image, Image.Image) else Image.fromarray(np.asarray(image)))) for image in images]
        return {"pixel_values": np.stack([patches for patches, _ in cuts]), "patch_boxes": np.stack([boxes for _, boxes in cuts])}

    def cut(self, image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Returns patches uint8[P, 3, s, s] and boxes f32[P, 5] of uint8[h, w, 3]."""
        height, width = image.shape[:2]
        levels, size = self.settings["levels"], self.settings["patch_size"]
        box = enlarge(self.foreground(image), width, height, max(level["grid"] for level in levels))
        picture, patches = Image.fromarray(image), []
        for level in levels:
            for tile in tiles(box, level["grid"]).tolist():
                patch = Image.fromarray(surroundings(image, tile)) if level["square"] else picture.crop(tile)
                patches.append(np.asarray(patch.resize((size, size), Image.Resampling.BILINEAR)))
        boxes = np.concatenate([relative(tiles(box, level["grid"]), width, height) for level in levels])
        return np.stack(patches).transpose(0, 3, 1, 2), boxes

    def foreground(self, image: np.ndarray) -> Box:
        """Finds the box of the product in uint8[h, w, 3]; the whole picture where there is none."""
        settings, (height, width) = self.settings["foreground"], image.shape[:2]
        if settings["method"] == "network":
            assert self.foreground_net is not None
            mask = network_mask(image, self.foreground_net)
        elif settings["method"] == "border":
            mask = border_mask(image, settings["tolerance"])
        else:
            return 0, 0, width, height
        return (0, 0, width, height) if mask.mean() < MIN_FRACTION else bounding_box(mask, settings["margin"])


# --- Texts of shops without what is meant for browsers: tags, entities, scripts and comments, and line breaks written as \\n


TAGS = ("a|abbr|address|article|aside|audio|b|bdi|bdo|big|blockquote|body|br|button|caption|center|cite|code|col|colgroup|dd|del|details|"
        "div|dl|dt|em|figcaption|figure|font|footer|form|h[1-6]|head|header|hr|html|i|iframe|img|input|ins|kbd|label|li|link|main|mark|"
        "meta|nav|nobr|object|ol|option|p|picture|pre|q|s|samp|section|select|small|source|span|strike|strong|sub|summary|sup|svg|table|"
        r"tbody|td|tfoot|th|thead|time|title|tr|tt|u|ul|video|wbr|[a-z]+[:-][a-z:-]+")
END = r"(?:\s[^<>=]*=[^<>]*|\s*(?:/\s*)?)>"  # a<b and c>d is none
INLINE = re.compile(rf"</?(?:a|abbr|b|big|em|font|i|mark|small|span|strong|sub|sup|u){END}", re.IGNORECASE)
TAG = re.compile(rf"</?(?:{TAGS}){END}", re.IGNORECASE)
HIDDEN = re.compile(  # what is open ends at the next of its kind at the latest, so that a text is read once, whatever it holds
    r"<!--(?:(?!<!--).)*?-->|<(script|style|template|noscript)\b(?:(?!<\1\b).)*?</\1\s*>|<!doctype[^<>]*>|<!\[CDATA\[|\]\]>",
    re.IGNORECASE | re.DOTALL)
ENTITY = re.compile(r"&(?:#\d{1,7}|#[xX][0-9a-fA-F]{1,6}|[a-zA-Z][a-zA-Z0-9]{1,31});")
BREAK = re.compile(r"(?:\\r)?\\n")
PASSES = 3  # entities of entities, such as &amp;nbsp;, and tags in entities


def without_markup(text: str) -> str:
    """Returns a text without markup; blanks around tags of blocks. Of other texts nothing changes."""
    if "<" not in text and "&" not in text and "\\n" not in text:
        return text
    result = BREAK.sub(" ", text)
    for _ in range(PASSES):
        before = result
        result = TAG.sub(" ", INLINE.sub("", HIDDEN.sub(" ", result)))
        result = ENTITY.sub(lambda match: html.unescape(match[0]), result)
        if result == before:
            break
    return result


# --- Reading a picture


def to_rgb(image: Image.Image) -> np.ndarray:
    """Returns a picture as uint8[h, w, 3], upright, transparency white."""
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I") or image.mode == "F":  # 16 bits and more are scaled to 8; Pillow would cut them off
        values = np.asarray(image, np.float64)
        top = 65535.0 if values.max(initial=0) > 255 else 255.0
        grey = np.clip(values * (255.0 / top), 0, 255).round().astype(np.uint8)
        return np.repeat(grey[:, :, None], 3, axis=2)
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, (255, 255, 255, 255)), image)
    return np.asarray(image.convert("RGB"), np.uint8)


# --- Kaleido patches: every pixel of the box belongs to exactly one patch of each level


def tiles(box: Box, grid: int) -> np.ndarray:
    """Returns int[grid * grid, 4]: x1, y1, x2, y2 of each patch, row by row."""
    x, y = (np.rint(np.linspace(start, stop, grid + 1)).astype(np.int64) for start, stop in ((box[0], box[2]), (box[1], box[3])))
    return np.array([(x[j], y[i], x[j + 1], y[i + 1]) for i in range(grid) for j in range(grid)])


def relative(positions: np.ndarray, width: int, height: int) -> np.ndarray:
    """Returns f32[n, 5]: x1, x2, y1, y2 of tiles as fractions of the picture, and the product of the two sides."""
    x1, y1, x2, y2 = positions.T.astype(np.float64)
    x1, x2, y1, y2 = x1 / width, x2 / width, y1 / height, y2 / height
    return np.stack([x1, x2, y1, y2, (x2 - x1) * (y2 - y1)], 1).astype(np.float32)


def enlarge(box: Box, width: int, height: int, side: int) -> Box:
    """Returns the box, grown inside the picture until it has ``side`` pixels each way."""
    if min(width, height) < side:
        raise ValueError(f"the picture is {width} x {height} pixels; patches need at least {side} x {side}")
    x1, y1 = min(box[0], width - side), min(box[1], height - side)
    return x1, y1, max(box[2], x1 + side), max(box[3], y1 + side)


def surroundings(image: np.ndarray, tile: Sequence[int]) -> np.ndarray:
    """Returns a square uint8[s, s, 3] around a tile, moved where the picture ends; s is its longer side, or what the picture has.

    Training turned such patches, and a tile squashed to a square has finer texture one way than the other, which tells its turn.
    """
    x1, y1, x2, y2 = tile
    height, width = image.shape[:2]
    side = min(max(x2 - x1, y2 - y1), height, width)
    left, top = (min(max((start + stop - side) // 2, 0), limit - side) for start, stop, limit in ((x1, x2, width), (y1, y2, height)))
    return image[top : top + side, left : left + side]


# --- The foreground: where the product is


MIN_FRACTION = 0.01  # of the picture: a smaller foreground is dust, not a product
MIN_COMPONENT = 0.02  # of the largest component: smaller ones are specks; a pair of shoes is two components
MIN_BORDER = 0.5  # of the border must be of one colour, else the picture has no plain background
REFINED = 320  # longest side in pixels at which the network's answer is fitted to the picture's edges
CLOSER = 0.2  # the network's second look: margin of the box, as a fraction of its longer side
GUIDE_RADIUS, GUIDE_SOFTNESS = 0.025, 0.002  # of the guided filter: fraction of the longer side, variance that counts as an edge


def bounding_box(mask: np.ndarray, margin: float) -> Box:
    """Returns the smallest box around all True pixels, widened by ``margin`` of its longer side, inside the picture."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    x1, x2, y1, y2 = columns[0], columns[-1] + 1, rows[0], rows[-1] + 1
    add = int(round(margin * max(x2 - x1, y2 - y1)))
    height, width = mask.shape
    return int(max(0, x1 - add)), int(max(0, y1 - add)), int(min(width, x2 + add)), int(min(height, y2 + add))


def border_mask(image: np.ndarray, tolerance: float) -> np.ndarray:
    """Returns bool[h, w]: what differs from the border's colour and is not background reached from the border; all False where the border
    is not of one colour. tolerance: largest root-mean-square colour distance that still counts as background."""
    pixels = image.astype(np.float32)
    ring = max(1, round(0.02 * min(image.shape[:2])))
    edge = np.zeros(image.shape[:2], bool)
    edge[:ring], edge[-ring:], edge[:, :ring], edge[:, -ring:] = True, True, True, True
    plain = np.sqrt(np.mean((pixels - np.median(pixels[edge], axis=0)) ** 2, axis=2)) <= tolerance
    if plain[edge].mean() < MIN_BORDER:
        return np.zeros(image.shape[:2], bool)
    regions = connected(plain)
    reached = np.unique(regions[edge & plain])
    return clean(~np.isin(regions, reached[reached > 0]))


class ForegroundNet(nn.Module):
    """A small U-Net: float[B, 4, s, s], colours and distance to the border's colour, -> probabilities of the product [B, s, s].

    channels: at 1/2, 1/4, ... of the size; batch normalisation is part of the weights.
    """

    def __init__(self, channels: Sequence[int], size: int):
        super().__init__()
        self.size = size
        inputs = [4, *channels[:-1]]
        self.down = nn.ModuleList([SamePadConv2d(before, width, 3 if depth else 4, 2)
                                   for depth, (before, width) in enumerate(zip(inputs, channels))])
        self.block = nn.ModuleList([SamePadConv2d(width, width, 3) for width in channels])
        self.bottom, self.context = SamePadConv2d(channels[-1], channels[-1], 3), nn.Linear(channels[-1], channels[-1])
        self.narrow = nn.ModuleList([nn.Conv2d(wide, width, 1) for width, wide in pairwise(channels)])
        self.merge = nn.ModuleList([SamePadConv2d(2 * width, width, 3) for width in channels[:-1]])
        self.logit = nn.ConvTranspose2d(channels[0], 1, 4, stride=2, padding=1)

    def forward(self, inputs: Tensor) -> Tensor:
        x, skips = inputs, []
        for down, block in zip(self.down, self.block):
            x = F.relu(down(x))
            x = x + F.relu(block(x))
            skips.append(x)
        x = F.relu(self.bottom(x)) + self.context(x.mean((2, 3)))[..., None, None]  # the mean of the picture, added everywhere
        for depth in reversed(range(len(self.merge))):
            x = F.interpolate(self.narrow[depth](x), scale_factor=2, mode="nearest")
            x = F.relu(self.merge[depth](torch.cat([x, skips[depth]], 1)))
        return torch.sigmoid(self.logit(x)[:, 0])


def network_mask(image: np.ndarray, network: ForegroundNet) -> np.ndarray:
    """Returns bool[h, w]. The network looks twice: at the whole picture, then, mirrored, at the box of what it found; the mean counts."""
    picture, fine = Image.fromarray(image), Image.fromarray(image)
    picture.thumbnail((REFINED, REFINED), Image.Resampling.BILINEAR)  # a smaller picture stays as it is
    wide, high = picture.size
    likely = look(fine, (0, 0, wide, high), picture.size, network)
    sure = clean(likely >= 0.5)
    if sure.any():
        x1, y1, x2, y2 = bounding_box(sure, CLOSER)
        closer = np.zeros_like(likely)
        closer[y1:y2, x1:x2] = look(ImageOps.mirror(fine), (wide - x2, y1, wide - x1, y2), picture.size, network)[:, ::-1]
        likely = (likely + closer) / 2
    likely = refine(likely, np.asarray(picture))
    if picture.size != fine.size:
        likely = np.asarray(Image.fromarray(likely).resize(fine.size, Image.Resampling.BILINEAR))
    return clean(without_holes(likely >= 0.5))


def look(picture: Image.Image, box: Box, frame: tuple[int, int], network: ForegroundNet) -> np.ndarray:
    """Returns probabilities f32[h, w] inside of a box given in pixels of a ``frame`` (width, height) that shows the whole picture."""
    x, y = picture.width / frame[0], picture.height / frame[1]
    region = (box[0] * x, box[1] * y, box[2] * x, box[3] * y)
    small = np.asarray(picture.resize((network.size, network.size), Image.Resampling.BILINEAR, region, reducing_gap=3.0))
    with torch.no_grad():
        likely = network(torch.from_numpy(channels_of(small).transpose(2, 0, 1)[None].copy()))[0].numpy()
    return np.asarray(Image.fromarray(likely).resize((box[2] - box[0], box[3] - box[1]), Image.Resampling.BILINEAR))


def channels_of(picture: np.ndarray) -> np.ndarray:
    """Returns what the network sees of uint8[s, s, 3]: f32[s, s, 4], colours and logarithmic distance to the border's colour."""
    edge = np.concatenate([side.reshape(-1, 3) for side in (picture[:2], picture[-2:], picture[:, :2], picture[:, -2:])])
    pixels = picture.astype(np.float32)
    away = np.square(pixels - np.median(edge, axis=0).astype(np.float32)).sum(-1, keepdims=True)
    distance = np.log1p(np.sqrt(away / 3)) * np.float32(2 / np.log(256)) - 1
    return np.concatenate([pixels * np.float32(1 / 127.5) - 1, distance], -1)


def refine(likely: np.ndarray, image: np.ndarray) -> np.ndarray:
    """Returns probabilities f32[h, w] moved to the edges of uint8[h, w, 3], by a guided filter (He et al., 2013).

    The guide is the logarithmic distance to the colour of the surest background.
    """
    away = (1 - likely) ** 2 + 1e-6
    pixels = image.astype(np.float32)
    colour = (pixels * away[:, :, None]).sum((0, 1)) / away.sum()
    guide = np.log1p(np.sqrt(np.mean((pixels - colour) ** 2, axis=2))) / np.log(256)
    size = 2 * max(3, round(GUIDE_RADIUS * max(likely.shape))) + 1

    def mean(values: np.ndarray) -> np.ndarray:
        return box_mean(values, size)

    about, level = mean(guide), mean(likely)
    slope = (mean(guide * likely) - about * level) / (mean(guide * guide) - about * about + GUIDE_SOFTNESS)
    return mean(slope) * guide + mean(level - slope * about)


def box_mean(values: np.ndarray, size: int) -> np.ndarray:
    """Returns the means over squares of size x size around every place of [h, w]; the edge is repeated outwards."""
    result = np.pad(values.astype(np.float64), size // 2, mode="edge")
    for axis in (0, 1):
        sums = np.insert(np.cumsum(result, axis), 0, 0, axis)
        result = (np.take(sums, range(size, sums.shape[axis]), axis) - np.take(sums, range(sums.shape[axis] - size), axis)) / size
    return result


def clean(mask: np.ndarray) -> np.ndarray:
    """Returns a mask opened by one pixel, without specks."""
    opened = squares(squares(mask, np.logical_and), np.logical_or)
    regions = connected(opened)
    if not regions.any():
        return opened
    sizes = np.bincount(regions.ravel())
    sizes[0] = 0
    return np.isin(regions, np.flatnonzero(sizes >= max(1.0, MIN_COMPONENT * sizes.max()))) & opened


def squares(mask: np.ndarray, combine: Callable[..., np.ndarray]) -> np.ndarray:
    """Returns the 3 x 3 neighbours of every pixel of bool[h, w] combined; beyond the border lies no foreground."""
    wide = np.pad(mask, 1)
    rows = combine(combine(wide[:-2], wide[1:-1]), wide[2:])
    return combine(combine(rows[:, :-2], rows[:, 1:-1]), rows[:, 2:])


def without_holes(mask: np.ndarray) -> np.ndarray:
    """Returns a mask with all that it surrounds."""
    outside = connected(np.pad(~mask, 1, constant_values=True))
    return (outside != outside[0, 0])[1:-1, 1:-1]


def connected(mask: np.ndarray) -> np.ndarray:
    """Numbers the regions of bool[h, w] whose pixels lie side by side or above one another: int[h, w], 0 where the mask is False."""
    steps = np.diff(np.pad(mask, ((0, 0), (1, 1))).astype(np.int8), axis=1)
    rows, starts = np.nonzero(steps == 1)  # stretches of True, row by row
    stops = np.nonzero(steps == -1)[1]
    parent = list(range(len(rows)))

    def root(number: int) -> int:
        while parent[number] != number:
            parent[number] = parent[parent[number]]
            number = parent[number]
        return number

    first = np.searchsorted(rows, np.arange(len(mask) + 1)).tolist()  # stretch of each row
    begin, end = starts.tolist(), stops.tolist()
    for row in range(1, len(mask)):
        above, here = first[row - 1], first[row]
        while above < first[row] and here < first[row + 1]:
            if begin[above] < end[here] and begin[here] < end[above]:
                parent[root(here)] = root(above)
            if end[above] < end[here]:
                above += 1
            else:
                here += 1
    numbers = 1 + np.unique([root(number) for number in range(len(rows))], return_inverse=True)[1]
    painted = np.zeros((len(mask), mask.shape[1] + 1), np.int64)
    painted[rows, starts] += numbers
    painted[rows, stops] -= numbers
    return np.cumsum(painted, axis=1)[:, :-1]

"""What ``kaleidobert inspect`` shows of a bank's alignment: caption, heat maps, links, and what guided masking hides beside
what random masking would.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw
from scipy import ndimage

from kaleidobert import levels as kaleido
from kaleidobert.app_zoo.inspect import pictures
from kaleidobert.app_zoo.inspect.content import Aligned, Corpus, Plan, Shown, Token
from kaleidobert.app_zoo.inspect.examples import Photo
from kaleidobert.app_zoo.inspect.pictures import BLUE, GREEN, GREY, LINE, ORANGE, font
from kaleidobert.configs import Sampling
from kaleidobert.datasets.bank import alignment as alignments
from kaleidobert.datasets.bank.bank import Bank
from kaleidobert.datasets.sampling.pretraining import generator, maskable, quota
from kaleidobert.errors import UserError
from kaleidobert.evaluators import alignment as evaluation
from kaleidobert.evaluators.report import plots_alignment
from kaleidobert.levels import KaleidoLevel
from kaleidobert.preprocessors import alignment_generator, alignment_guided_masking, patch_generator
from kaleidobert.preprocessors.tokenization import Word, words_of_text

# --- Pictures of an alignment on a page of ``kaleidobert inspect``: heat maps of words, and lines from words to patches

COLOURS = (BLUE, ORANGE, GREEN, "#A0417F", "#7A6200", "#3B3B98", "#9C2F2F", "#00707A", "#6B4E9B", "#4F6B1E")
HEAT = np.array([(255, 255, 255), (254, 217, 142), (254, 153, 41), (217, 95, 14), (153, 52, 4)], np.float32)  # from cold to hot
LETTERS = 17  # pixels
ROW = 30  # pixels of a word in the column of words


@dataclass(frozen=True)
class Linked:
    """A word of the text and its strengths [n] to the patches of one level; number: its place among the words, for its colour."""

    text: str
    number: int
    strengths: np.ndarray


def colour(number: int) -> str:
    """The colour of the number-th word, the same in every picture of a page."""
    return COLOURS[number % len(COLOURS)]


def heat(image: np.ndarray, box: Sequence[int], attention: np.ndarray, threshold: float, side: int = 190) -> Image.Image:
    """The box of uint8[h, w, 3] under a map f[G, G], hot where the captioner looked; outlined: the region that is linked."""
    picture = crop(image, box, side)
    fine = alignment_generator.refine(np.asarray(attention, np.float32)[None])[0]
    fine = fine / max(float(fine.max()), 1e-12)
    shown = np.asarray(Image.fromarray(fine).resize(picture.size, Image.Resampling.BILINEAR)).clip(0, 1)[..., None]
    step = shown * (len(HEAT) - 1)
    low = np.floor(step).astype(int).clip(0, len(HEAT) - 2)[..., 0]
    warm = HEAT[low] + (step - low[..., None]) * (HEAT[low + 1] - HEAT[low])
    grey = np.asarray(picture.convert("L"), np.float32)[..., None]
    share = 0.25 + 0.45 * shown
    pixels = (1 - share) * grey + share * warm
    region = np.asarray(Image.fromarray(fine).resize(picture.size, Image.Resampling.NEAREST)) >= threshold
    pixels[ndimage.binary_dilation(region, iterations=2) & ~region] = (29, 37, 48)
    return Image.fromarray(pixels.round().astype(np.uint8))


def lines(image: np.ndarray, box: Sequence[int], grid: int, words: Sequence[Linked], side: int = 330) -> Image.Image:
    """The words in a column, the box of uint8[h, w, 3] cut into grid x grid beside it, and a line from each word to the middle
    of each of its patches; the stronger, the thicker."""
    photo, letters = crop(image, box, side), font(LETTERS)
    column = 40 + max([round(letters.getlength(word.text)) for word in words], default=60)
    height = max(photo.height, ROW * len(words))
    picture = Image.new("RGB", (column + 60 + photo.width, height), "white")
    top, left = (height - photo.height) // 2, column + 60
    faded = np.asarray(photo, np.float32) * 0.7 + 255 * 0.3
    picture.paste(Image.fromarray(faded.round().astype(np.uint8)), (left, top))
    brush = ImageDraw.Draw(picture)
    tiles = patch_generator.tiles((left, top, left + photo.width, top + photo.height), grid)
    for x1, y1, x2, y2 in tiles.tolist():
        brush.rectangle((x1, y1, x2 - 1, y2 - 1), outline=LINE)
    owners: dict[int, int] = {}
    for word in words:  # frames first, so that no frame hides a line; those of one patch stand inside one another
        for patch in np.flatnonzero(word.strengths).tolist():
            inset = 4 * owners.get(patch, 0)
            owners[patch] = owners.get(patch, 0) + 1
            x1, y1, x2, y2 = tiles[patch].tolist()
            if min(x2 - x1, y2 - y1) > 2 * inset + 6:
                brush.rectangle((x1 + inset, y1 + inset, x2 - 1 - inset, y2 - 1 - inset), outline=colour(word.number), width=3)
    first = (height - ROW * len(words)) // 2 + ROW // 2
    best = max([float(word.strengths.max(initial=0)) for word in words], default=0)
    for place, word in enumerate(words):
        y, ink = first + place * ROW, colour(word.number)
        for patch in np.flatnonzero(word.strengths).tolist():
            x1, y1, x2, y2 = tiles[patch].tolist()
            middle = ((x1 + x2) // 2, (y1 + y2) // 2)
            width = 1 + round(3 * float(word.strengths[patch]) / best)
            brush.line((column, y, *middle), fill="white", width=width + 2)
            brush.line((column, y, *middle), fill=ink, width=width)
            brush.ellipse((middle[0] - 5, middle[1] - 5, middle[0] + 5, middle[1] + 5), fill=ink, outline="white")
        brush.rounded_rectangle((2, y - 13, column, y + 13), 7, fill=ink)
        brush.text((column - 14, y), word.text, font=letters, fill="white", anchor="rm")
    if not words:
        brush.text((2, height // 2), "no links", font=letters, fill=GREY, anchor="lm")
    return picture


def crop(image: np.ndarray, box: Sequence[int], side: int) -> Image.Image:
    """The box of uint8[h, w, 3], its longer side ``side`` pixels."""
    x1, y1, x2, y2 = box
    scale = side / max(x2 - x1, y2 - y1)
    size = max(12, round((x2 - x1) * scale)), max(12, round((y2 - y1) * scale))
    return Image.fromarray(image[y1:y2, x1:x2]).resize(size, Image.Resampling.LANCZOS)


STREAM = 20  # of the seed: masks that only these pages show
MOST_MAPS = 12  # heat maps on a page
MOST_COUNTED = 5000  # pictures in the statistics
TITLES = {"alignment_guided": "Alignment Guided Masking", "random": "random masking"}
AGAIN = "set maps to the folder of the `kaleidobert align` run that aligned this bank, or leave it out"


class Alignment:
    """A bank's alignment with its captions, and with the words' maps where ``maps`` names a folder of maps.npy and words.jsonl.

    Raises UserError where the alignment does not fit the bank, or the maps do not fit the alignment.
    """

    def __init__(self, bank: Bank, maps: Path | None):
        self.bank, self.captions, self.tokenizer = bank, alignments.captions(bank), bank.tokenizer()
        self.maps: np.ndarray | None = None
        self.has_map: list[list[bool]] = []
        if maps is not None:
            self.maps, self.has_map = self._open(maps)

    def _open(self, folder: Path) -> tuple[np.ndarray, list[list[bool]]]:
        try:
            found = np.load(folder / "maps.npy", mmap_mode="r", allow_pickle=False)
            lines = [json.loads(line) for line in (folder / "words.jsonl").read_text(encoding="utf-8").splitlines()]
        except FileNotFoundError as error:
            raise UserError("there are no maps", str(error.filename), "maps.npy and words.jsonl", AGAIN) from None
        except ValueError as error:
            raise UserError(f"the maps cannot be read ({error})", str(folder), fix=AGAIN) from None
        ids = self.bank.column("image_id").tolist()
        if found.ndim != 4 or len(found) != len(ids) or [line["image_id"] for line in lines] != ids:
            raise UserError(f"the maps belong to {len(lines)} other pictures", str(folder), f"those of the bank: {len(ids)}", AGAIN)
        return found, [line["has_map"] for line in lines]

    def words(self, row: int) -> list[Word]:
        """The words of a row's text with the places of their pieces, number w as token_words has it."""
        return words_of_text(self.tokenizer.pieces(self.bank.token_ids[row].tolist()), self.bank.token_words[row])

    @property
    def threshold(self) -> float:
        """The share of a map's maximum that its region reaches."""
        info = alignments.info(self.bank)
        assert info is not None  # or the constructor has refused the bank
        return float(info["settings"].get("regions", {}).get("threshold", 0.5))


def build(found: Alignment, levels: Sequence[KaleidoLevel], row: int, photo: Photo, sampling: Sampling, seed: int) -> Aligned:
    """What the alignment says of a row."""
    words, strengths = found.words(row), np.asarray(alignments.of(found.bank)[row])
    linked = [number for number, word in enumerate(words) if word.positions and strengths[word.positions[0]].any()]
    colours = {number: place for place, number in enumerate(linked)}
    shown = []
    for level, part in zip(levels, kaleido.patch_slices(levels).values()):
        if level.num_masked:
            of_level = [Linked(words[number].text, colours[number], strengths[words[number].positions[0], part].astype(np.float64))
                        for number in linked]
            caption = f"{level.name}: {level.grid} × {level.grid}"
            shown.append(Shown(caption, lines(photo.image, photo.box, level.grid, of_level)))
    maps = []
    if found.maps is not None:
        numbers = [number for number in range(len(words)) if number < len(found.has_map[row]) and found.has_map[row][number]]
        for number in numbers[:MOST_MAPS]:
            picture = heat(photo.image, photo.box, np.asarray(found.maps[row, number], np.float32), found.threshold)
            maps.append(Shown(words[number].text, picture))
    content = sum(bool(word.positions) for word in words)
    note = f"{len(linked)} of {content} words are linked to patches." if content else "The picture has no text."
    caption = found.captions[row].get("caption", "") if found.captions else ""
    plans = tuple(_plan(policy, found, levels, row, photo, sampling, seed) for policy in TITLES)
    return Aligned(caption, note, tuple(maps), tuple(shown), plans)


def corpus(found: Alignment, levels: Sequence[KaleidoLevel], path: Path) -> Corpus:
    """The statistics of the bank's alignment, of evenly spaced rows where there are many; draws them into ``path``."""
    bank = found.bank
    rows = np.arange(bank.size)[:: -(-bank.size // MOST_COUNTED)]
    words = [[word.text for word in found.words(row)] for row in rows.tolist()]
    counts = evaluation.statistics(alignments.of(bank)[rows], bank.token_words[rows], words, levels, alignment_generator.content)
    plots_alignment.corpus(counts, path)
    with Image.open(path) as image:
        shown = Shown(f"of {len(rows):,} pictures" if len(rows) == bank.size else f"of {len(rows):,} of {bank.size:,} pictures",
                      image.convert("RGB"))
    return Corpus(counts, shown)


def _plan(policy: str, found: Alignment, levels: Sequence[KaleidoLevel], row: int, photo: Photo, sampling: Sampling, seed: int) -> Plan:
    """One draw of a policy for the picture and its own text."""
    bank, one = found.bank, slice(row, row + 1)
    token_ids, vocabulary, can_be = bank.token_ids[one], bank.vocabulary, maskable(bank, one)
    texts = alignment_guided_masking.Texts(can_be, bank.token_words[one], np.asarray(alignments.of(bank)[one]))
    masks = alignment_guided_masking.plan(policy, texts, levels, quota(sampling), generator(seed, STREAM, row))
    hidden = set(masks.tokens[0, masks.token_weights[0] > 0].tolist())
    names = found.tokenizer.pieces(token_ids[0].tolist())
    tokens = [Token(names[place], "masked" if place in hidden else "plain" if can_be[0, place] else "special", place + 1)
              for place in np.flatnonzero(token_ids[0] != vocabulary.pad).tolist()]
    shown = [Shown(name, _masked_patches(next(level for level in levels if level.name == name), photo, chosen[0].tolist()))
             for name, chosen in masks.patches.items()]
    strengths = np.asarray(alignments.of(bank)[row]) > 0
    slices = kaleido.patch_slices(levels)
    patches_hidden = [slices[name].start + patch for name, chosen in masks.patches.items() for patch in chosen[0].tolist()]
    aligned_tokens = sum(bool(strengths[place].any()) for place in hidden)
    aligned_patches = sum(bool(strengths[:, patch].any()) for patch in patches_hidden)
    both = sum(bool(strengths[sorted(hidden)][:, patch].any()) for patch in patches_hidden)
    note = (f"{aligned_tokens} of {len(hidden)} hidden pieces and {aligned_patches} of {len(patches_hidden)} hidden patches are "
            f"aligned; hidden on both sides: {both}.")
    return Plan(TITLES[policy], note, tuple(tokens), tuple(shown))


def _masked_patches(level: KaleidoLevel, photo: Photo, chosen: Sequence[int]) -> Image.Image:
    x1, y1, x2, y2 = photo.box
    cell = pictures.cell_size(level.grid, (x2 - x1) / (y2 - y1))
    small = max(4, round(0.7 * cell[0])), max(4, round(0.7 * cell[1]))
    own = patch_generator.cut(photo.image, photo.box, (level,), max(small))[level.name]
    return pictures.patch_grid(own, level.grid, small, chosen, chosen)

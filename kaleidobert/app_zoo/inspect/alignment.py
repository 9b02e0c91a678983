"""What ``kaleidobert inspect`` shows of a bank's alignment: captions, heat maps, links, and what guided masking hides beside what
random masking hides.
"""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from kaleidobert import levels as kaleido
from kaleidobert.app_zoo.inspect import pages, pictures
from kaleidobert.app_zoo.inspect.examples import Photo
from kaleidobert.app_zoo.inspect.pages import Corpus, Figure, Plan, Token
from kaleidobert.app_zoo.inspect.pictures import WordLinks
from kaleidobert.configs import Sampling
from kaleidobert.datasets.bank import alignment as alignments
from kaleidobert.datasets.bank.bank import Bank
from kaleidobert.datasets.sampling.pretraining import generator, maskable, quota
from kaleidobert.errors import UserError
from kaleidobert.evaluators import alignment as evaluation
from kaleidobert.evaluators.report import plots
from kaleidobert.levels import KaleidoLevel
from kaleidobert.preprocessors import alignment_generator, alignment_guided_masking, patch_generator
from kaleidobert.preprocessors.tokenization import Word, words_of_text

STREAM = 20  # of the seed: masks that only these pages show
MAX_MAPS = 12  # heat maps on a page
MAX_COUNTED = 5000  # pictures in the statistics
TITLES = {"alignment_guided": "Alignment Guided Masking", "random": "random masking"}
OTHER_MAPS = "set maps to the folder of the `kaleidobert align` run that aligned this bank, or leave it out"


class BankAlignment:
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
            maps = np.load(folder / "maps.npy", mmap_mode="r", allow_pickle=False)
            lines = [json.loads(line) for line in (folder / "words.jsonl").read_text(encoding="utf-8").splitlines()]
        except FileNotFoundError as error:
            raise UserError("there are no maps", str(error.filename), "maps.npy and words.jsonl", OTHER_MAPS) from None
        except ValueError as error:
            raise UserError(f"the maps cannot be read ({error})", str(folder), fix=OTHER_MAPS) from None
        ids = self.bank.column("image_id").tolist()
        if maps.ndim != 4 or len(maps) != len(ids) or [line["image_id"] for line in lines] != ids:
            raise UserError(f"the maps belong to {len(lines)} other pictures", str(folder), f"those of the bank: {len(ids)}", OTHER_MAPS)
        return maps, [line["has_map"] for line in lines]

    def words(self, row: int) -> list[Word]:
        """Returns the words of a row's text with the positions of their pieces; word w is number w of token_words."""
        return words_of_text(self.tokenizer.pieces(self.bank.token_ids[row].tolist()), self.bank.token_words[row])

    @property
    def threshold(self) -> float:
        """The fraction of a map's maximum that its region reaches."""
        info = alignments.info(self.bank)
        assert info is not None  # the constructor refuses a bank without
        return float(info["settings"].get("regions", {}).get("threshold", 0.5))


def build(aligned: BankAlignment, levels: Sequence[KaleidoLevel], row: int, photo: Photo, sampling: Sampling,
          seed: int) -> pages.Alignment:
    """Returns what the alignment says of a row, and one draw of each masking policy."""
    words, strengths = aligned.words(row), np.asarray(alignments.of(aligned.bank)[row])
    linked = [number for number, word in enumerate(words) if word.positions and strengths[word.positions[0]].any()]
    colours = {number: rank for rank, number in enumerate(linked)}
    links = []
    for level, patches in zip(levels, kaleido.patch_slices(levels).values()):
        if level.num_masked:
            of_level = [WordLinks(words[number].text, colours[number], strengths[words[number].positions[0], patches].astype(np.float64))
                        for number in linked]
            caption = f"{level.name}: {level.grid} × {level.grid}"
            links.append(Figure(caption, pictures.link_lines(photo.image, photo.box, level.grid, of_level)))
    content = sum(bool(word.positions) for word in words)
    note = f"{len(linked)} of {content} words are linked to patches." if content else "The picture has no text."
    caption = aligned.captions[row].get("caption", "") if aligned.captions else ""
    plans = tuple(_plan(policy, aligned, levels, row, photo, sampling, seed) for policy in TITLES)
    return pages.Alignment(caption, note, _maps(aligned, row, photo, words), tuple(links), plans)


def corpus(aligned: BankAlignment, levels: Sequence[KaleidoLevel], path: Path) -> Corpus:
    """Computes the statistics of the bank's alignment, of evenly spaced rows where there are many, and draws them into ``path``."""
    bank = aligned.bank
    rows = np.arange(bank.size)[:: -(-bank.size // MAX_COUNTED)]
    words = [[word.text for word in aligned.words(row)] for row in rows.tolist()]
    counts = evaluation.statistics(alignments.of(bank)[rows], bank.token_words[rows], words, levels, alignment_generator.content)
    plots.alignment_statistics(counts, path)
    with Image.open(path) as image:
        caption = f"of {len(rows):,} pictures" if len(rows) == bank.size else f"of {len(rows):,} of {bank.size:,} pictures"
        return Corpus(counts, Figure(caption, image.convert("RGB")))


def _maps(aligned: BankAlignment, row: int, photo: Photo, words: Sequence[Word]) -> tuple[Figure, ...]:
    """The heat maps of a row's first words that have a map."""
    if aligned.maps is None:
        return ()
    numbers = [number for number in range(len(words)) if number < len(aligned.has_map[row]) and aligned.has_map[row][number]]
    return tuple(Figure(words[number].text, pictures.heat_map(photo.image, photo.box, np.asarray(aligned.maps[row, number], np.float32),
                                                              aligned.threshold)) for number in numbers[:MAX_MAPS])


def _plan(policy: str, aligned: BankAlignment, levels: Sequence[KaleidoLevel], row: int, photo: Photo, sampling: Sampling,
          seed: int) -> Plan:
    """Draws a policy's masks for the picture and its own text."""
    bank, one = aligned.bank, slice(row, row + 1)
    token_ids, vocabulary, can_be = bank.token_ids[one], bank.vocabulary, maskable(bank, one)
    texts = alignment_guided_masking.Texts(can_be, bank.token_words[one], np.asarray(alignments.of(bank)[one]))
    masks = alignment_guided_masking.plan(policy, texts, levels, quota(sampling), generator(seed, STREAM, row))
    hidden = set(masks.tokens[0, masks.token_weights[0] > 0].tolist())
    names = aligned.tokenizer.pieces(token_ids[0].tolist())
    tokens = [Token(names[position], "masked" if position in hidden else "plain" if can_be[0, position] else "special", position + 1)
              for position in np.flatnonzero(token_ids[0] != vocabulary.pad).tolist()]
    figures = [Figure(name, _masked_patches(next(level for level in levels if level.name == name), photo, chosen[0].tolist()))
               for name, chosen in masks.patches.items()]
    strengths = np.asarray(alignments.of(bank)[row]) > 0
    slices = kaleido.patch_slices(levels)
    patches_hidden = [slices[name].start + patch for name, chosen in masks.patches.items() for patch in chosen[0].tolist()]
    aligned_tokens = sum(bool(strengths[position].any()) for position in hidden)
    aligned_patches = sum(bool(strengths[:, patch].any()) for patch in patches_hidden)
    both = sum(bool(strengths[sorted(hidden)][:, patch].any()) for patch in patches_hidden)
    note = (f"{aligned_tokens} of {len(hidden)} hidden pieces and {aligned_patches} of {len(patches_hidden)} hidden patches are "
            f"aligned; hidden on both sides: {both}.")
    return Plan(TITLES[policy], note, tuple(tokens), tuple(figures))


def _masked_patches(level: KaleidoLevel, photo: Photo, chosen: Sequence[int]) -> Image.Image:
    x1, y1, x2, y2 = photo.box
    cell = pictures.cell_size(level.grid, (x2 - x1) / (y2 - y1))
    small = max(4, round(0.7 * cell[0])), max(4, round(0.7 * cell[1]))
    own = patch_generator.cut(photo.image, photo.box, (level,), max(small))[level.name]
    return pictures.patch_grid(own, level.grid, small, chosen, chosen)

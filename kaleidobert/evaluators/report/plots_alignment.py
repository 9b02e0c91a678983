"""Pictures of an alignment as PNG files: what a corpus's links are like, and how well they find described parts."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from kaleidobert.errors import UserError
from kaleidobert.evaluators.alignment import METHODS
from kaleidobert.evaluators.report.plots import GRID, MUTED, TRAIN, VAL, panels, plain, save

WORDS = 15  # most and least aligned ones
MOST_PATCHES = 6  # per word: more are drawn as one bar
SHADES = (TRAIN, VAL, "#00795A", "#A0417F", "#7A6200", "#3B3B98")
METHOD_COLOURS = dict(zip(METHODS, (TRAIN, GRID, "#C6C6C6", "#9A9A9A", MUTED)))


def corpus(statistics: Mapping[str, Any], path: str | Path) -> None:
    """Shares of what is aligned; the most and least aligned words; patches per word; how often each patch is linked.

    statistics: of evaluators.alignment.statistics. Raises UserError where it names no level.
    """
    levels = list(statistics["patches_per_word"])
    if not levels:
        raise UserError("no level has masked patches", str(path), "a level table with one")
    columns = max(4, len(levels))
    figure, axes = panels(3.4 * columns, 7.6, 2, columns)
    _shares(axes[0], statistics)
    _words(axes[1], "Most aligned words", statistics["most"])
    _words(axes[2], "Least aligned words", statistics["least"])
    _patches(axes[3], statistics["patches_per_word"])
    for axis, name in zip(axes[columns:], levels):
        _use(axis, name, statistics["patch_use"][name])
    for axis in (*axes[4:columns], *axes[columns + len(levels):]):
        axis.set_visible(False)
    save(figure, path)


def located(summary: Mapping[str, Mapping[str, Any]], path: str | Path) -> None:
    """Pointing game and patch hits beside chance, centre, mean and place, with their intervals; summary: of evaluators.alignment."""
    figure, axes = panels(1.2 + 2.1 * len(summary), 7.0, 2, 1)
    for axis, title, pick in ((axes[0], "Words that find their part, mean over words", lambda row: row),
                              (axes[1], "The same over all sightings", lambda row: row["sightings"])):
        plain(axis, title)
        width = 0.8 / len(METHODS)
        for number, method in enumerate(METHODS):
            rows = [pick(measure[method]) for measure in summary.values()]
            values = np.array([row["value"] for row in rows])
            spread = np.abs(np.array([[row["low"], row["high"]] for row in rows]).T - values)
            places = np.arange(len(rows)) + (number - (len(METHODS) - 1) / 2) * width
            axis.bar(places, values, width, color=METHOD_COLOURS[method], label=method, yerr=spread,
                     error_kw={"elinewidth": 1, "ecolor": "#333333"})
        axis.set_xticks(np.arange(len(summary)), list(summary))
        axis.yaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=len(METHODS), frameon=False, fontsize=9)
    save(figure, path)


def _shares(axis: Any, statistics: Mapping[str, Any]) -> None:
    plain(axis, "Share with a link")
    names = {"tokens": "word pieces", "words": "words", "rows": "pictures"}
    values = [statistics[f"aligned_{name}_share"] for name in names]
    bars = axis.bar(list(names.values()), values, 0.6, color=TRAIN)
    axis.bar_label(bars, [f"{value:.1%}" for value in values], fontsize=9, padding=2)
    axis.set_ylim(0, 1.08)
    axis.yaxis.set_major_formatter(lambda value, _: f"{value:.0%}")


def _words(axis: Any, title: str, words: list[list]) -> None:
    plain(axis, title)
    axis.grid(False)
    axis.grid(axis="x", color=GRID, linewidth=0.6)
    shown = words[:WORDS][::-1]
    if not shown:
        axis.text(0.5, 0.5, "no word is frequent enough", ha="center", color=MUTED, transform=axis.transAxes)
    axis.barh([f"{word} ({count:,})" for word, count, _ in shown], [share for *_, share in shown], 0.7, color=TRAIN)
    axis.set_xlim(0, 1.02)
    axis.xaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    axis.set_xlabel("of its occurrences", color=MUTED, fontsize=9)


def _patches(axis: Any, per_word: Mapping[str, list[int]]) -> None:
    plain(axis, "Patches of an aligned word")
    most = min(MOST_PATCHES, max(len(counts) for counts in per_word.values()) - 1)
    most, width = max(most, 1), 0.8 / len(per_word)
    for number, (name, counts) in enumerate(per_word.items()):
        folded = np.zeros(most + 1)
        np.add.at(folded, np.minimum(np.arange(len(counts)), most), counts)
        places = np.arange(most + 1) + (number - (len(per_word) - 1) / 2) * width
        axis.bar(places, folded / max(1, folded.sum()), width, color=SHADES[number % len(SHADES)], label=name)
    longer = any(len(counts) - 1 > most for counts in per_word.values())
    axis.set_xticks(np.arange(most + 1), [*map(str, range(most)), f"{most}+" if longer else str(most)])
    axis.yaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    axis.legend(frameon=False, fontsize=8)


def _use(axis: Any, name: str, use: list[float]) -> None:
    """Each patch's share of the level's links."""
    side = round(len(use) ** 0.5)
    square = np.array(use).reshape(side, side)
    axis.imshow(square, cmap="Blues", vmin=0)
    axis.set_title(f"Links to each patch: {name}", loc="left", fontsize=10)
    axis.set_xticks([])
    axis.set_yticks([])
    for (row, column), share in np.ndenumerate(square):
        axis.text(column, row, f"{share:.0%}", ha="center", va="center", fontsize=8,
                  color="white" if share > 0.6 * square.max() else "#1D2530")

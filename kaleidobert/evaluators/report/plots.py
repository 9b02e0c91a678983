"""Plots of results as PNG files: loss curves per task (paper, Fig. 6), confusion matrix, rank histogram, alignments.

They use matplotlib's objects and the Agg canvas: no window system, no global state; a file appears complete or not at all.
"""

from collections.abc import Iterable, Mapping, Sequence
from math import ceil
from pathlib import Path
from typing import Any

import numpy as np

from kaleidobert import io
from kaleidobert.errors import UserError
from kaleidobert.evaluators.alignment import METHODS

DPI = 150
TRAIN, VAL, MUTED, GRID = "#0072B2", "#D55E00", "#6B6B6B", "#DDDDDD"  # colour-blind readers can distinguish them
EVALUATED = {"val": "validation", "held_out": "held out of training"}  # splits, as the legend calls them
LOSSES = ("_loss", "_kl")
COLUMNS = 3
SMOOTH = 0.02  # fraction of a curve's points in the window of the moving mean
MAX_COUNTED = 24  # classes up to which the cells of a confusion matrix show their numbers
MAX_NAME = 26  # letters of a class name
WORDS = 15  # most and least aligned ones
MAX_PATCHES = 6  # per word: more are drawn as one bar
SHADES = (TRAIN, VAL, "#00795A", "#A0417F", "#7A6200", "#3B3B98")
METHOD_COLOURS = dict(zip(METHODS, (TRAIN, GRID, "#C6C6C6", "#9A9A9A", MUTED)))


def loss_curves(rows: Iterable[Mapping[str, Any]], path: str | Path, chance: Mapping[str, float] | None = None) -> None:
    """Draws one panel per loss, with the training and the evaluations: validation, or the groups held out of the training split.

    rows: as in metrics.jsonl, {"step": int, "split": "train", "val" or "held_out", name: value, ...}; panels show "loss" and the names that
    end in _loss or _kl. Rows need not have every name; a value that is not finite makes a gap. A panel whose values span more than a factor
    of 10 has a logarithmic axis. chance: {name: the loss of a uniform guess or of the best constant answer}, a dashed line. Raises
    UserError where no row has a loss.
    """
    curves = _curves(rows)
    if not curves:
        raise UserError("no row holds a loss", str(path), "rows with step, split and names that end in _loss or _kl")
    columns = min(COLUMNS, len(curves))
    figure, axes = panels(3.9 * columns, 2.7 * ceil(len(curves) / columns) + 0.45, ceil(len(curves) / columns), columns)
    for axis, (name, splits) in zip(axes, curves.items()):
        plain(axis, title=_title(name))
        if "train" in splits:
            steps, values = splits["train"]
            if len(steps) * SMOOTH >= 2:  # else there is nothing to smooth
                axis.plot(steps, values, color=TRAIN, linewidth=0.6, alpha=0.35)
            axis.plot(steps, _smoothed(values), color=TRAIN, linewidth=1.6, label="training")
        for split in EVALUATED.keys() & splits.keys():
            axis.plot(*splits[split], color=VAL, linewidth=1.6, marker="o", markersize=3, label=EVALUATED[split])
        if chance is not None and name in chance:
            axis.axhline(chance[name], color=MUTED, linewidth=1, linestyle=(0, (4, 3)), label="without a model")
        _scale(axis, [values for _, values in splits.values()])
    for axis in axes[len(curves):]:
        axis.set_visible(False)
    figure.supxlabel("step", color=MUTED, fontsize=10)
    lines = {label: line for axis in axes[:len(curves)] for line, label in zip(*axis.get_legend_handles_labels())}
    figure.legend(lines.values(), lines.keys(), loc="outside upper left", ncols=len(lines), frameon=False)
    save(figure, path)


def confusion(matrix: np.ndarray, names: Sequence[str], path: str | Path) -> None:
    """Draws matrix i64[C, C], row = true class: each cell's fraction of its row, over a square-root scale that shows rare confusions.

    Rows without examples are grey. Up to 24 classes the counts stand in the cells. Raises UserError where sizes differ.
    """
    from matplotlib.colors import PowerNorm

    matrix, count = np.asarray(matrix), len(names)
    if matrix.shape != (count, count) or not count:
        raise UserError(f"{count} names, matrix {list(matrix.shape)}", str(path), "one row and one column per name")
    side = max(3.2, (0.24 if count <= MAX_COUNTED else 0.165) * count)
    figure, (axis,) = panels(side + 2.4, side + 1.7, 1, 1)
    support = matrix.sum(axis=1, keepdims=True)
    fractions = np.ma.masked_where(np.broadcast_to(support == 0, matrix.shape), matrix / np.maximum(support, 1))
    axis.set_facecolor("#EEEEEE")
    image = axis.imshow(fractions, cmap="Blues", norm=PowerNorm(0.5, 0, 1), interpolation="nearest")
    size = 9 if count <= MAX_COUNTED else 6.5
    labels = [_short(name) for name in names]
    axis.set_xticks(range(count), labels, rotation=90, fontsize=size)
    axis.set_yticks(range(count), [f"{label}  {total}" for label, total in zip(labels, support[:, 0])], fontsize=size)
    axis.tick_params(length=0, pad=2)
    axis.set_xticks(np.arange(count + 1) - 0.5, minor=True)
    axis.set_yticks(np.arange(count + 1) - 0.5, minor=True)
    axis.grid(which="minor", color="white" if count <= MAX_COUNTED else "#F4F4F4", linewidth=1.2 if count <= MAX_COUNTED else 0.4)
    axis.tick_params(which="minor", length=0)
    axis.spines[:].set_visible(False)
    axis.set_xlabel("predicted class", color=MUTED)
    axis.set_ylabel("true class and its number of examples", color=MUTED)
    hits, total = int(np.trace(matrix)), int(matrix.sum())
    axis.set_title(f"{hits:,} of {total:,} right ({hits / max(total, 1):.1%})", loc="left", fontsize=10)
    bar = figure.colorbar(image, ax=axis, shrink=min(1.0, 3 / side), aspect=18, pad=0.02, format="{x:.0%}",
                          ticks=[0, 0.05, 0.25, 0.5, 1])
    bar.outline.set_visible(False)
    bar.ax.set_title("fraction of\nthe row", fontsize=8, color=MUTED, loc="left")
    if count <= MAX_COUNTED:
        for row, column in np.argwhere(matrix):
            axis.text(column, row, matrix[row, column], ha="center", va="center", fontsize=6.5,
                      color="white" if fractions[row, column] > 0.4 else "black")
    save(figure, path)


def rank_histogram(ranks: np.ndarray, path: str | Path, length: int = 101) -> None:
    """Draws ranks f64[Q] of the right candidate in lists of ``length`` (1 = first): the fraction per rank, and how many lie within K.

    A fractional rank (ties by expectation) counts as the next whole rank. Raises UserError without ranks and for ranks outside of the list.
    """
    ranks = np.asarray(ranks, np.float64)
    if ranks.ndim != 1 or not ranks.size or not (ranks.min() >= 1 and ranks.max() <= length):
        raise UserError(f"{ranks.size} ranks" + (f" from {ranks.min()} to {ranks.max()}" if ranks.size else ""), str(path),
                        f"at least one, from 1 to {length}")
    fractions = np.bincount(np.ceil(ranks).astype(np.int64), minlength=length + 1)[1:] / len(ranks)
    positions, within = np.arange(1, length + 1), fractions.cumsum()
    figure, (left, right) = panels(9.6, 3.5, 1, 2)
    plain(left, title=f"Rank of the right candidate, {len(ranks):,} queries")
    left.bar(positions, fractions, width=0.85 if length <= 200 else 1.0, color=TRAIN)
    left.axhline(1 / length, color=MUTED, linewidth=1, linestyle=(0, (4, 3)))
    median = float(np.median(ranks))
    left.axvline(median, color=VAL, linewidth=1.2)
    side = ("left", 5) if median < 0.7 * length else ("right", -5)
    left.annotate(f"median {median:g}", (median, 0.97), xycoords=("data", "axes fraction"), xytext=(side[1], 0),
                  textcoords="offset points", va="top", ha=side[0], color=VAL, fontsize=9)
    left.annotate("chance", (length, 1 / length), xytext=(0, 2), textcoords="offset points", va="bottom", ha="right",
                  color=MUTED, fontsize=9)
    _percent(left, "rank", "queries")
    left.set_xlim(0, length + 1)
    plain(right, title="Right candidate within the first K")
    right.step(positions, within, where="post", color=TRAIN, linewidth=1.8)
    right.plot(positions, positions / length, color=MUTED, linewidth=1, linestyle=(0, (4, 3)))
    right.annotate("chance", (length * 0.62, 0.62), xytext=(6, -9), textcoords="offset points", color=MUTED, fontsize=9)
    for k in (1, 5, 10):
        if k <= length:
            right.plot(k, within[k - 1], "o", color=VAL, markersize=5)
            below = within[k - 1] > 0.15
            right.annotate(f"{within[k - 1]:.1%}", (k, within[k - 1]), xytext=(6, -4 if below else 4), fontsize=9, color=VAL,
                           textcoords="offset points", va="top" if below else "bottom")
    right.set_xscale("log")
    right.set_xlim(0.9, length * 1.05)
    ticks = [k for k in (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 10_000, 100_000) if k <= length]
    right.set_xticks(ticks, [f"{k:,}" for k in ticks])
    right.set_xticks([], minor=True)
    right.set_ylim(0, 1.03)
    _percent(right, "K (logarithmic)", "queries")
    save(figure, path)


def alignment_statistics(statistics: Mapping[str, Any], path: str | Path) -> None:
    """Draws the aligned fractions; the most and least aligned words; patches per word; how often each patch is linked.

    statistics: of evaluators.alignment.statistics. Raises UserError where it has no level.
    """
    levels = list(statistics["patches_per_word"])
    if not levels:
        raise UserError("no level has masked patches", str(path), "a level table with one")
    columns = max(4, len(levels))
    figure, axes = panels(3.4 * columns, 7.6, 2, columns)
    _fractions(axes[0], statistics)
    _words(axes[1], "Most aligned words", statistics["most"])
    _words(axes[2], "Least aligned words", statistics["least"])
    _patches(axes[3], statistics["patches_per_word"])
    for axis, name in zip(axes[columns:], levels):
        _use(axis, name, statistics["patch_use"][name])
    for axis in (*axes[4:columns], *axes[columns + len(levels):]):
        axis.set_visible(False)
    save(figure, path)


def located_parts(summary: Mapping[str, Mapping[str, Any]], path: str | Path) -> None:
    """Draws pointing game and patch hits beside the other METHODS, with their intervals; summary: of evaluators.alignment."""
    figure, axes = panels(1.2 + 2.1 * len(summary), 7.0, 2, 1)
    for axis, title, pick in ((axes[0], "Words that find their part, mean over words", lambda row: row),
                              (axes[1], "The same over all sightings", lambda row: row["sightings"])):
        plain(axis, title)
        width = 0.8 / len(METHODS)
        for number, method in enumerate(METHODS):
            rows = [pick(measure[method]) for measure in summary.values()]
            values = np.array([row["value"] for row in rows])
            spread = np.abs(np.array([[row["low"], row["high"]] for row in rows]).T - values)
            positions = np.arange(len(rows)) + (number - (len(METHODS) - 1) / 2) * width
            axis.bar(positions, values, width, color=METHOD_COLOURS[method], label=method, yerr=spread,
                     error_kw={"elinewidth": 1, "ecolor": "#333333"})
        axis.set_xticks(np.arange(len(summary)), list(summary))
        axis.yaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=len(METHODS), frameon=False, fontsize=9)
    save(figure, path)


def panels(width: float, height: float, rows: int, columns: int) -> tuple[Any, list[Any]]:
    """Returns (a matplotlib figure of so many inches, its axes row by row)."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=DPI, layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    return figure, list(figure.subplots(rows, columns, squeeze=False).ravel())


def save(figure: Any, path: str | Path) -> None:
    """Writes a figure as PNG, complete or not at all."""
    with io.atomic(path) as file:
        figure.canvas.print_png(file)


def plain(axis: Any, title: str) -> None:
    """Gives a panel its title and the look of all panels."""
    axis.set_title(title, loc="left", fontsize=10)
    axis.spines[["top", "right"]].set_visible(False)
    axis.spines[["left", "bottom"]].set_color(MUTED)
    axis.tick_params(colors=MUTED, labelsize=8)
    axis.grid(axis="y", color=GRID, linewidth=0.6)
    axis.set_axisbelow(True)


def _percent(axis: Any, xlabel: str, ylabel: str) -> None:
    axis.yaxis.set_major_formatter(lambda value, _: f"{value:.1%}" if axis.get_ylim()[1] < 0.05 else f"{value:.0%}")
    axis.set_xlabel(xlabel, color=MUTED)
    axis.set_ylabel(ylabel, color=MUTED)


def _curves(rows: Iterable[Mapping[str, Any]]) -> dict[str, dict[str, tuple[np.ndarray, np.ndarray]]]:
    """Returns {name: {split: (steps, values)}}, names in the order of their first row, steps rising; of a repeated step the last row."""
    points: dict[str, dict[str, dict[int, float]]] = {}
    for row in rows:
        for name, value in row.items():
            if name == "loss" or name.endswith(LOSSES):
                number = float("nan") if value is None or not np.isfinite(value) else float(value)
                points.setdefault(name, {}).setdefault(row["split"], {})[int(row["step"])] = number
    return {name: {split: (np.array(sorted(of)), np.array([of[step] for step in sorted(of)])) for split, of in splits.items()}
            for name, splits in points.items()}


def _scale(axis: Any, curves: Sequence[np.ndarray]) -> None:
    from matplotlib.ticker import LogLocator

    values = np.concatenate(curves)
    values = values[np.isfinite(values)]
    if values.size and values.min() > 0 and values.max() > 10 * values.min():
        axis.set_yscale("log", subs=())
        axis.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if values.max() < 1000 * values.min() else (1,)))
        axis.yaxis.set_major_formatter(lambda value, _: f"{value:g}")


def _smoothed(values: np.ndarray) -> np.ndarray:
    """Computes a centred moving mean over the finite values; gaps stay gaps."""
    width = max(1, round(SMOOTH * len(values)))
    window, finite = np.ones(2 * (width // 2) + 1), np.isfinite(values)
    total = np.convolve(np.where(finite, values, 0.0), window)
    count = np.convolve(finite.astype(np.float64), window)
    middle = slice(width // 2, width // 2 + len(values))
    return np.where(finite, total[middle] / np.maximum(count[middle], 1), np.nan)


def _title(name: str) -> str:
    if name == "loss":
        return "total loss"
    return name.removesuffix("_loss") if name.endswith("_loss") else f"{name.removesuffix('_kl')} (KL)"


def _short(name: str) -> str:
    return name if len(name) <= MAX_NAME else name[:MAX_NAME - 1] + "…"


def _fractions(axis: Any, statistics: Mapping[str, Any]) -> None:
    plain(axis, "Fraction with a link")
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
    axis.barh([f"{word} ({count:,})" for word, count, _ in shown], [fraction for *_, fraction in shown], 0.7, color=TRAIN)
    axis.set_xlim(0, 1.02)
    axis.xaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    axis.set_xlabel("of its occurrences", color=MUTED, fontsize=9)


def _patches(axis: Any, per_word: Mapping[str, list[int]]) -> None:
    plain(axis, "Patches of an aligned word")
    limit = min(MAX_PATCHES, max(len(counts) for counts in per_word.values()) - 1)
    limit, width = max(limit, 1), 0.8 / len(per_word)
    for number, (name, counts) in enumerate(per_word.items()):
        folded = np.zeros(limit + 1)
        np.add.at(folded, np.minimum(np.arange(len(counts)), limit), counts)
        positions = np.arange(limit + 1) + (number - (len(per_word) - 1) / 2) * width
        axis.bar(positions, folded / max(1, folded.sum()), width, color=SHADES[number % len(SHADES)], label=name)
    longer = any(len(counts) - 1 > limit for counts in per_word.values())
    axis.set_xticks(np.arange(limit + 1), [*map(str, range(limit)), f"{limit}+" if longer else str(limit)])
    axis.yaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    axis.legend(frameon=False, fontsize=8)


def _use(axis: Any, name: str, use: list[float]) -> None:
    """Draws each patch's fraction of the level's links."""
    side = round(len(use) ** 0.5)
    square = np.array(use).reshape(side, side)
    axis.imshow(square, cmap="Blues", vmin=0)
    axis.set_title(f"Links to each patch: {name}", loc="left", fontsize=10)
    axis.set_xticks([])
    axis.set_yticks([])
    for (row, column), fraction in np.ndenumerate(square):
        axis.text(column, row, f"{fraction:.0%}", ha="center", va="center", fontsize=8,
                  color="white" if fraction > 0.6 * square.max() else "#1D2530")

"""The kaleido levels: the only file that knows how many there are and what is asked of each.

A level cuts the picture's foreground into ``grid x grid`` patches and owns a slice of the one patch axis of length P. What
the model is asked about a level follows from how its patches were spoiled (paper, section 3.3; sizes as released).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import factorial

from kaleidobert.errors import UserError

MAX_CLASSES = 1_000_000  # a 4x4 shuffle would have 16! classes: no head, label table or training set can hold them


@dataclass(frozen=True)
class Pretext:
    """How a level is spoiled and what is asked about it.

    answer: "class" (cross-entropy over num_classes(grid)) or "feature" (the original feature of each masked patch).
    num_views: stored feature vectors per patch; more than one where spoiling changes pixels, not only their order.
    fixed_masked: how many patches are spoiled one by one; None = free choice of the level (at least one).
    """

    answer: str
    num_views: int = 1
    num_classes: Callable[[int], int] | None = None
    fixed_masked: int | None = 0


PRETEXTS = {
    "rotate": Pretext("class", num_views=4, num_classes=lambda n: 4),
    "shuffle": Pretext("class", num_classes=lambda n: factorial(n * n)),
    "camouflage": Pretext("class", num_classes=lambda n: n * n, fixed_masked=1),
    "grey": Pretext("feature", num_views=2, fixed_masked=None),
    "blank": Pretext("feature", fixed_masked=None),
}


@dataclass(frozen=True)
class KaleidoLevel:
    """One row of the level table; raises UserError where the row makes no sense."""

    name: str
    grid: int
    pretext: str
    num_masked: int = 0
    weight: float = 1.0

    def __post_init__(self) -> None:
        where = f"level {self.name!r}"
        if self.pretext not in PRETEXTS:
            raise UserError(f"unknown pretext {self.pretext!r}", where, f"one of {', '.join(PRETEXTS)}")
        if self.grid < 1:
            raise UserError(f"grid is {self.grid}", where, "a grid of at least 1")
        if not self.name.isidentifier() or self.name in ("mlm", "itm"):
            raise UserError("the name cannot be used", where, "letters, digits and _; neither mlm nor itm")
        pretext = PRETEXTS[self.pretext]
        if pretext.fixed_masked is None:
            if not 1 <= self.num_masked <= self.num_patches:
                raise UserError(f"num_masked is {self.num_masked}", where, f"1 to {self.num_patches} for {self.pretext!r}")
        elif self.num_masked != pretext.fixed_masked:
            raise UserError(f"num_masked is {self.num_masked}", where, f"{pretext.fixed_masked} for {self.pretext!r}")
        if pretext.num_classes and not 2 <= pretext.num_classes(self.grid) <= MAX_CLASSES:
            raise UserError(f"a {self.grid}x{self.grid} {self.pretext!r} has no usable number of classes", where,
                            f"2 to {MAX_CLASSES:,} classes: another grid")

    @property
    def num_patches(self) -> int:
        return self.grid * self.grid

    @property
    def num_views(self) -> int:
        return PRETEXTS[self.pretext].num_views

    @property
    def answer(self) -> str:
        return PRETEXTS[self.pretext].answer

    @property
    def num_classes(self) -> int:
        """Classes of a "class" level; 0 for a "feature" level."""
        count = PRETEXTS[self.pretext].num_classes
        return count(self.grid) if count else 0


KALEIDO = (
    KaleidoLevel("rotation", 1, "rotate"),
    KaleidoLevel("jigsaw", 2, "shuffle"),
    KaleidoLevel("camouflage", 3, "camouflage", num_masked=1),
    KaleidoLevel("grey", 4, "grey", num_masked=2),
    KaleidoLevel("blank", 5, "blank", num_masked=3),
)


def check(levels: Sequence[KaleidoLevel]) -> tuple[KaleidoLevel, ...]:
    """The levels as a tuple; raises UserError if there are none or two share a name."""
    names = [level.name for level in levels]
    if not names or len(set(names)) < len(names):
        raise UserError(f"levels are named {names}", "the level table", "at least one level, each name once")
    return tuple(levels)


def num_patches(levels: Sequence[KaleidoLevel]) -> int:
    """P: the length of the patch axis; 55 for KALEIDO."""
    return sum(level.num_patches for level in levels)


def num_vectors(levels: Sequence[KaleidoLevel]) -> int:
    """Feature vectors stored per picture, all views; 74 for KALEIDO."""
    return sum(level.num_patches * level.num_views for level in levels)


def patch_slices(levels: Sequence[KaleidoLevel]) -> dict[str, slice]:
    """{level name: its slice of the patch axis}."""
    return _slices(levels, [level.num_patches for level in levels])


def vector_slices(levels: Sequence[KaleidoLevel]) -> dict[str, slice]:
    """{level name: its slice of the stored vectors}, inside it view-major: (views, patches)."""
    return _slices(levels, [level.num_patches * level.num_views for level in levels])


def feature_levels(levels: Sequence[KaleidoLevel]) -> tuple[KaleidoLevel, ...]:
    """The levels whose masked patches are answered by a feature: grey and blank of KALEIDO."""
    return tuple(level for level in levels if level.answer == "feature")


def _slices(levels: Sequence[KaleidoLevel], sizes: list[int]) -> dict[str, slice]:
    ends = [sum(sizes[: i + 1]) for i in range(len(sizes))]
    return {level.name: slice(end - size, end) for level, size, end in zip(levels, sizes, ends)}

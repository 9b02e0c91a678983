"""The kaleido levels: the only file that knows how many there are and what is predicted of each.

A level cuts the picture's foreground into ``grid x grid`` patches and owns a slice of the one patch axis of length P. What
the model predicts of a level follows from how its patches were spoiled (paper, section 3.3; sizes as released).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import factorial, isfinite

from kaleidobert.errors import UserError

MAX_CLASSES = 1_000_000  # a 4x4 shuffle would have 16! classes: no head, label table or training set can hold them
MAX_GRID = 32  # 1,024 patches, sixteen times the text: no attention over more is meant
RESERVED = ("mlm", "itm", "itc", "total", "patch_features", "patch_features_scale")  # names that stand beside the levels' in the same dicts


@dataclass(frozen=True)
class Pretext:
    """How a level is spoiled and what is predicted of it.

    answer: "class" (cross-entropy over num_classes(grid)), "feature" (the original feature of each masked patch), or "" (nothing:
    no head, loss or metric).
    num_views: stored feature vectors per patch; more than one where spoiling changes pixels, not only their order.
    fixed_masked: how many patches are spoiled one by one; None = free choice of the level (at least one).
    question: what is asked, in words, for the pages of ``inspect``; "" = a general one.
    """

    answer: str
    num_views: int = 1
    num_classes: Callable[[int], int] | None = None
    fixed_masked: int | None = 0
    question: str = ""


PRETEXTS = {
    "rotate": Pretext("class", num_views=4, num_classes=lambda n: 4, question="How far is the patch turned?"),
    "shuffle": Pretext("class", num_classes=lambda n: factorial(n * n), question="In which order do the patches stand?"),
    "camouflage": Pretext("class", num_classes=lambda n: n * n, fixed_masked=1, question="Which patch is another product's?"),
    "grey": Pretext("feature", num_views=2, fixed_masked=None, question="What are the grey patches in colour?"),
    "blank": Pretext("feature", fixed_masked=None, question="What is behind the blank patches?"),
    "none": Pretext("", question="Nothing is to be predicted."),  # the patches enter as they are
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
        if not 1 <= self.grid <= MAX_GRID:
            raise UserError(f"grid is {self.grid}", where, f"a grid of 1 to {MAX_GRID}")
        if not self.name.isidentifier() or self.name in RESERVED:
            raise UserError("the name cannot be used", where, f"letters, digits and _; none of {', '.join(RESERVED)}")
        self._check_masked(where)
        self._check_weight(where)
        pretext = PRETEXTS[self.pretext]
        if pretext.num_classes and not 2 <= pretext.num_classes(self.grid) <= MAX_CLASSES:
            raise UserError(f"a {self.grid}x{self.grid} {self.pretext!r} has no usable number of classes", where,
                            f"2 to {MAX_CLASSES:,} classes: another grid")

    def _check_masked(self, where: str) -> None:
        fixed = PRETEXTS[self.pretext].fixed_masked
        if fixed is not None and self.num_masked != fixed:
            raise UserError(f"num_masked is {self.num_masked}", where, f"{fixed} for {self.pretext!r}",
                            "leave num_masked out" if not fixed else f"set num_masked: {fixed}")
        if fixed is None and not 1 <= self.num_masked <= self.num_patches:
            raise UserError(f"num_masked is {self.num_masked}", where, f"1 to {self.num_patches} for {self.pretext!r}")

    def _check_weight(self, where: str) -> None:
        if not (isfinite(self.weight) and self.weight >= 0):
            raise UserError(f"weight is {self.weight}", where, "a finite number, at least 0",
                            "set weight: 0 to leave the level's loss out, or pretext: none to predict nothing of it")
        if not self.answer and self.weight not in (0, 1):
            raise UserError(f"weight is {self.weight}, and nothing is predicted of a level without a pretext", where, "no weight",
                            "leave weight out, or name a pretext")

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
    def question(self) -> str:
        return PRETEXTS[self.pretext].question or f"What did {self.pretext!r} do to the patches?"

    @property
    def num_classes(self) -> int:
        """Classes of a "class" level; 0 for the others."""
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
    """Returns the levels as a tuple; raises UserError if there are none, two have one name, or all of their patches are blank."""
    names = [level.name for level in levels]
    if not names or len(set(names)) < len(names):
        raise UserError(f"levels are named {names}", "the level table", "at least one level, each name once")
    if all(level.pretext == "blank" and level.num_masked == level.num_patches for level in levels):
        raise UserError(f"all {num_patches(levels)} patches are blank", "the level table", "a patch of the picture that the model sees",
                        "set a smaller num_masked, or add a level")
    return tuple(levels)


def num_patches(levels: Sequence[KaleidoLevel]) -> int:
    """Returns P, the length of the patch axis; 55 for KALEIDO."""
    return sum(level.num_patches for level in levels)


def num_vectors(levels: Sequence[KaleidoLevel]) -> int:
    """Counts the feature vectors stored per picture, all views; 74 for KALEIDO."""
    return sum(level.num_patches * level.num_views for level in levels)


def patch_slices(levels: Sequence[KaleidoLevel]) -> dict[str, slice]:
    """Returns {level name: its slice of the patch axis}."""
    return _slices(levels, [level.num_patches for level in levels])


def vector_slices(levels: Sequence[KaleidoLevel]) -> dict[str, slice]:
    """Returns {level name: its slice of the stored vectors}, inside it view-major: (views, patches)."""
    return _slices(levels, [level.num_patches * level.num_views for level in levels])


def target_levels(levels: Sequence[KaleidoLevel]) -> tuple[KaleidoLevel, ...]:
    """Returns the levels that have a target: those with a head, a loss and metrics."""
    return tuple(level for level in levels if level.answer)


def subset(stored: Sequence[KaleidoLevel], wanted: Sequence[KaleidoLevel]) -> list[int] | None:
    """Returns the position in ``stored`` of each of ``wanted``; None where one is missing or the order differs.

    A level is stored where name, grid and pretext are the same; a level without a pretext needs name and grid only, as view 0 of every
    pretext is the untouched patch.
    """
    known = {(level.name, level.grid, pretext): position for position, level in enumerate(stored) for pretext in (level.pretext, "none")}
    positions = [known.get((level.name, level.grid, level.pretext), -1) for level in wanted]
    return positions if -1 not in positions and positions == sorted(set(positions)) else None


def turned_levels(levels: Sequence[KaleidoLevel]) -> frozenset[str]:
    """Returns the names of the levels whose patches get turned: rotation of KALEIDO."""
    return frozenset(level.name for level in levels if level.pretext == "rotate")


def feature_levels(levels: Sequence[KaleidoLevel]) -> tuple[KaleidoLevel, ...]:
    """Returns the levels whose masked patches are answered by a feature: grey and blank of KALEIDO."""
    return tuple(level for level in levels if level.answer == "feature")


def _slices(levels: Sequence[KaleidoLevel], sizes: list[int]) -> dict[str, slice]:
    ends = [sum(sizes[: i + 1]) for i in range(len(sizes))]
    return {level.name: slice(end - size, end) for level, size, end in zip(levels, sizes, ends)}

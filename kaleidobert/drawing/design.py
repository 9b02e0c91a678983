"""What one product is: kind, colours, pattern and features, drawn by lot from (seed, index) alone."""

from dataclasses import dataclass

import numpy as np

from kaleidobert.drawing.kinds import KINDS, Kind, Odds
from kaleidobert.drawing.palette import COLOURS, RGB, jitter, luminance, tonal

DIALS = ("width", "length", "flare", "neck", "sleeve", "pose", "detail", "place", "curve", "size")  # free numbers of a shape
DESIGN, WORDING, SPLIT, PICTURE = 0, 1, 2, 3  # purposes of a generator; pictures use PICTURE + view
ACCENTED = ("stripe", "stripes", "print", "logo", "patch", "feather")  # parts always drawn in the second colour
BRIGHT = ("white", "yellow", "beige", "mint", "pink")  # second colours that show on dark cloth


@dataclass(frozen=True)
class Design:
    """One product. main, second: RGB; features: {key: choice} of what it has; contrast: keys drawn in the second colour."""

    subcategory: str
    colour: str
    accent: str
    pattern: str
    main: RGB
    second: RGB
    features: dict[str, str]
    contrast: frozenset[str]
    dials: dict[str, float]

    @property
    def kind(self) -> Kind:
        return KINDS[self.subcategory]

    def dial(self, name: str, low: float, high: float) -> float:
        return low + (high - low) * self.dials[name]

    def has(self, key: str, *choices: str) -> bool:
        """Whether the product has the feature, in one of the choices where some are given."""
        return key in self.features and (not choices or self.features[key] in choices)

    @property
    def two_coloured(self) -> bool:
        """Whether the second colour is seen: in the pattern, on a contrasting part or on a part that always has it."""
        parts = bool(self.contrast) or any(key in self.features for key in ACCENTED)
        return parts or self.pattern not in ("solid", "pinstriped", "camouflage")

    def ink(self, key: str) -> RGB:
        """The colour of a part: the second colour where it contrasts, else a tone of the main one."""
        return self.second if key in self.contrast else tonal(self.main)

    def trim(self, key: str, otherwise: RGB | None = None) -> RGB | None:
        """The colour of a part that is made of something else, or of the cloth itself, unless it contrasts."""
        return self.second if key in self.contrast else otherwise


def generator(seed: int, index: int, purpose: int) -> np.random.Generator:
    """The generator of one purpose of one product; counter-based, so that no product depends on another."""
    return np.random.Generator(np.random.Philox(key=np.array([seed, index], np.uint64), counter=[0, 0, 0, purpose]))


def pick(odds: Odds, lot: float) -> str:
    """The choice under ``lot`` in [0, 1)."""
    mark = lot * sum(weight for _, weight in odds)
    for name, weight in odds:
        mark -= weight
        if mark < 0:
            return name
    return odds[-1][0]


def subcategory(seed: int, index: int) -> str:
    """Roughly balanced: two products of three take their place in a shuffled round of all kinds, the third is free."""
    names = tuple(KINDS)
    lots = generator(seed, index, DESIGN).random(2)
    if lots[0] < 1 / 3:
        return names[int(lots[1] * len(names))]
    rounds = np.random.Philox(key=np.array([seed, index // len(names)], np.uint64), counter=[1, 0, 0, 0])
    order = np.argsort(np.random.Generator(rounds).random(len(names)), kind="stable")
    return names[int(order[index % len(names)])]


def design(seed: int, index: int) -> Design:
    """Draw the lots of one product."""
    name = subcategory(seed, index)
    kind = KINDS[name]
    lots = generator(seed, index, DESIGN).random(64)[2:]
    colours = kind.colours or tuple(COLOURS)
    colour = colours[int(lots[0] * len(colours))]
    accent = _accent(colour, lots[1])
    pattern = pick(kind.patterns, lots[2])
    contrasting = lots[3] < 0.35 and pattern in ("solid", "colour-block")
    features, contrast = {}, set()
    for key, two in zip(kind.features, lots[20:].reshape(-1, 2), strict=False):
        choice = pick(kind.features[key], two[0])
        if choice != "none":
            features[key] = choice
            if contrasting and key in kind.contrast and two[1] < 0.6:
                contrast.add(key)
    dials = dict(zip(DIALS, lots[10:20].tolist(), strict=True))
    return Design(name, colour, accent, pattern, jitter(COLOURS[colour], lots[4:7]), jitter(COLOURS[accent], lots[7:10]),
                  _sensible(name, features, pattern), frozenset(contrast), dials)


def _accent(colour: str, lot: float) -> str:
    """A second colour that can be told from the first."""
    base = COLOURS[colour]
    far = [name for name, rgb in COLOURS.items() if sum(abs(a - b) for a, b in zip(rgb, base, strict=True)) > 170]
    if luminance(base) < 70:
        far = [name for name in far if name in BRIGHT] or far
    return far[int(lot * len(far))]


def _sensible(name: str, features: dict[str, str], pattern: str) -> dict[str, str]:
    """Take away what does not go together: a print on a pattern, a pocket under a print, cuffs without sleeves."""
    drop: set[str] = set()
    if pattern != "solid":
        drop |= {"print", "stripes"}
    if "print" in features and "print" not in drop:
        drop |= {"pocket"} if name != "HOODIES" else set()
    if name == "HOODIES" and "zip" in features:
        drop |= {"print"}
    if name == "DRESSES" and features["collar"] == "square" and features.get("sleeve") == "long":
        drop |= {"buttons"}
    if features.get("pleats"):
        drop |= {"buttons", "slit", "fit"}
        features["hem"] = "straight"
    if name == "BEANIES" and "cuff" not in features:
        drop |= {"patch"}
    if name == "BACKPACKS" and "flap" in features:
        drop |= {"zip"}
    if name == "JUMPSUITS" and features["collar"] == "spread":
        features["zip"] = "front"
    if name == "SHIRTS" and features["sleeve"] == "short":
        drop |= {"cuffs"}
    if name == "BOOTS" and (features["shaft"], features.get("closure")) == ("knee", "panels"):
        drop |= {"closure"}
    if name == "DOWN JACKETS" and features.get("sleeve") == "sleeveless":
        drop |= {"cuffs"}
    return {key: choice for key, choice in features.items() if key not in drop}


"""What one product is: type, colours, pattern and features, drawn at random from (seed, index) alone."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import overload

import numpy as np

# --- Colours, and what is derived from them: darker and lighter tones, outlines


RGB = tuple[int, int, int]

COLOURS: dict[str, RGB] = {
    "black": (34, 34, 38), "white": (245, 245, 243), "grey": (152, 154, 158), "navy": (32, 44, 92), "blue": (46, 104, 200),
    "turquoise": (70, 188, 200), "green": (40, 140, 76), "olive": (112, 114, 56), "mint": (168, 222, 190),
    "yellow": (246, 212, 66), "orange": (238, 134, 40), "red": (208, 38, 46), "burgundy": (112, 28, 50),
    "pink": (244, 160, 186), "purple": (108, 54, 148), "lilac": (192, 172, 226), "brown": (112, 72, 46), "beige": (220, 200, 164),
}


def luminance(rgb: RGB) -> float:
    """Computes the perceived brightness, 0 to 255 (the weights of ITU-R BT.601)."""
    return 0.299 * rgb[0] + 0.587 * rgb[1] + 0.114 * rgb[2]


def mix(first: RGB, second: RGB, fraction: float) -> RGB:
    """Mixes a fraction of the second colour into the first."""
    red, green, blue = (round(a + (b - a) * fraction) for a, b in zip(first, second, strict=True))
    return red, green, blue


def dark(rgb: RGB, fraction: float = 0.2) -> RGB:
    return mix(rgb, (0, 0, 0), fraction)


def light(rgb: RGB, fraction: float = 0.2) -> RGB:
    return mix(rgb, (255, 255, 255), fraction)


def deep(rgb: RGB, fraction: float) -> RGB:
    """Returns a clearly darker tone, or a lighter one of a dark colour: straps, soles, tapes."""
    return dark(rgb, fraction) if luminance(rgb) > 70 else light(rgb, 0.22)


def tonal(rgb: RGB) -> RGB:
    """Returns a slightly different tone of the same colour, as of a rib or a collar beside the body."""
    return light(rgb, 0.13) if luminance(rgb) < 60 else dark(rgb, 0.1)


def outline(rgb: RGB) -> RGB:
    """Returns the colour of an edge or a seam on ``rgb``: darker, or lighter on a dark colour."""
    return light(rgb, 0.3) if luminance(rgb) < 62 else dark(rgb, 0.42)


def jitter(rgb: RGB, draws: Sequence[float] | np.ndarray) -> RGB:
    """Returns the colour of one dye lot: slightly darker or lighter, of nearly the same hue; draws: three numbers in [0, 1)."""
    shift = 16 * draws[0] - 8
    own = (draws[1], draws[2], 1 - draws[1])
    red, green, blue = (min(252, max(8, round(c + shift + 5 * u - 2.5))) for c, u in zip(rgb, own, strict=True))
    return red, green, blue


# --- Types: for each subcategory its category, its nouns, its odds of features and of patterns

Odds = tuple[tuple[str, float], ...]


@dataclass(frozen=True)
class ProductType:
    """One subcategory. features: {key: odds}; contrast: keys that may be drawn in the second colour."""

    category: str
    nouns: tuple[str, ...]
    features: dict[str, Odds]
    patterns: Odds
    contrast: tuple[str, ...] = ()
    colours: tuple[str, ...] = ()


def odds(text: str) -> Odds:
    words = text.split()
    return tuple((name, float(weight)) for name, weight in zip(words[::2], words[1::2], strict=True))


def _type(category: str, nouns: str, patterns: str, contrast: str, colours: str = "", **features: str) -> ProductType:
    table = {key: odds(text) for key, text in features.items()}
    return ProductType(category, tuple(nouns.split("|")), table, odds(patterns), tuple(contrast.split()), tuple(colours.split()))


SOLID = "solid 1"
SHIRTING = "solid 8 striped 3 pinstriped 2 checked 3 dotted 2 floral 1.5"
JERSEY = "solid 9 striped 5 colour-block 2 dotted 1 floral 1 camouflage 1 gradient 1"
KNIT = "solid 9 striped 4 zigzag 2 colour-block 2 checked 1"
TAILORED = "solid 9 pinstriped 2 checked 2"
GOWN = "solid 8 dotted 2 floral 3 striped 1 gradient 1.5 zigzag .7"
LEATHER = "solid 8 colour-block 1.5 floral .7 striped 1 checked 1 zigzag .6"
PRINTS = "none 7 star 1 heart 1 circle 1 moon 1 lightning 1"
DENIM = "blue navy black grey white"

PRODUCT_TYPES: dict[str, ProductType] = {
    "T-SHIRTS": _type("TOPS", "t-shirt|tee", JERSEY, "collar cuffs", sleeve="short 7 long 2 elbow 1",
                      collar="crew 5 vneck 3 scoop 2", pocket="none 3 chest 2", print=PRINTS, cuffs="none 3 trim 1",
                      hem="straight 3 curved 2"),
    "SHIRTS": _type("TOPS", "shirt|button-down", SHIRTING, "collar cuffs", sleeve="long 7 short 3", collar="spread 7 band 3",
                    buttons="row 1", pocket="none 3 chest 3 two 2", cuffs="barrel 1", hem="curved 2 straight 1"),
    "POLOS": _type("TOPS", "polo|polo shirt", JERSEY, "collar cuffs", sleeve="short 8 long 2", collar="polo 1",
                   placket="buttons 3 zip 1", cuffs="ribbed 1", logo="none 1 chest 1", hem="straight 2 vented 1"),
    "TANK TOPS": _type("TOPS", "tank top|camisole", JERSEY, "straps", straps="thin 2 wide 3", collar="scoop 2 vneck 1 square 1",
                       print=PRINTS, hem="straight 3 cropped 2 flared 2"),
    "SWEATERS": _type("KNITWEAR", "sweater|pullover", KNIT, "collar cuffs hem", sleeve="long 1",
                      collar="crew 4 vneck 3 turtle 3", cuffs="ribbed 1", hem="ribbed 1", print="none 8 star 1 heart 1 moon 1"),
    "CARDIGANS": _type("KNITWEAR", "cardigan|knit jacket", KNIT, "cuffs hem buttons", sleeve="long 1", collar="vneck 2 shawl 1",
                       buttons="row 1", pocket="none 1 patch 2", cuffs="ribbed 1", hem="ribbed 1"),
    "HOODIES": _type("KNITWEAR", "hoodie|hooded sweatshirt", JERSEY, "hood cuffs hem drawstring", sleeve="long 1",
                     hood="soft 1", drawstring="hood 1", zip="none 1 front 1", pocket="kangaroo 4 none 1", cuffs="ribbed 1",
                     hem="ribbed 1", print=PRINTS),
    "COATS": _type("OUTERWEAR", "coat|overcoat", TAILORED, "collar belt", sleeve="long 1", collar="notch 3 shawl 1 peak 2",
                   buttons="row 1 double 1", pocket="flap 2 welt 1 patch 1", belt="none 2 waist 1", cuffs="none 2 tab 1"),
    "BOMBERS": _type("OUTERWEAR", "bomber jacket|bomber", "solid 8 camouflage 1.5 colour-block 2 floral .7 striped .5",
                     "collar cuffs hem sleeve", sleeve="long 1", collar="stand 1", zip="front 1", pocket="slant 3 zip 2",
                     cuffs="ribbed 1", hem="ribbed 1"),
    "BLAZERS": _type("OUTERWEAR", "blazer|suit jacket", TAILORED, "collar pocket buttons", sleeve="long 1",
                     collar="notch 3 peak 2 shawl 1", buttons="one 1 two 2 double 1", pocket="flap 3 patch 1 welt 1",
                     hem="curved 1 straight 1"),
    "DOWN JACKETS": _type("OUTERWEAR", "down jacket|puffer jacket", "solid 8 camouflage 1 colour-block 2 gradient 1",
                          "collar hood zip", sleeve="long 3 sleeveless 1", zip="front 1", collar="funnel 1",
                          hood="none 1 soft 1", pocket="zip 2 none 1", cuffs="elastic 1"),
    "JEANS": _type("TROUSERS", "jeans|denim trousers", SOLID, "cuffs", DENIM, fit="skinny 1 straight 1 flared 1",
                   waistband="loops 1", pocket="five 1", rips="none 2 knee 1", cuffs="none 2 rolled 1", button="front 1"),
    "SHORTS": _type("TROUSERS", "shorts|bermudas", "solid 7 striped 2 checked 2 floral 2 dotted 1 camouflage 1",
                    "drawstring stripe cuffs", waistband="elastic 2 loops 1", drawstring="none 1 waist 2",
                    pocket="slant 2 cargo 1", cuffs="none 2 rolled 1", stripe="none 3 side 1"),
    "SWEATPANTS": _type("TROUSERS", "sweatpants|lounge pants", "solid 9 colour-block 2 camouflage 1 gradient 1",
                        "stripe cuffs drawstring waistband", waistband="elastic 1", drawstring="waist 3 none 1",
                        pocket="slant 3 zip 1", cuffs="ribbed 1", stripe="none 1 side 1"),
    "DRESSES": _type("DRESSES & SKIRTS", "dress|day dress", SHIRTING, "belt collar",
                     sleeve="sleeveless 2 short 2 puff 2 long 1", collar="scoop 2 vneck 2 square 1 crew 1",
                     belt="none 1 waist 1", hem="flared 2 straight 2 ruffle 2", buttons="none 3 row 1"),
    "GOWNS": _type("DRESSES & SKIRTS", "gown|evening dress", GOWN, "belt straps", straps="none 1 thin 2 halter 1 single 1",
                   bodice="sweetheart 1 straight 1", belt="none 1 sash 1", hem="flared 2 ruffle 2 mermaid 2",
                   slit="none 2 side 1"),
    "SKIRTS": _type("DRESSES & SKIRTS", "skirt", SHIRTING, "waistband", waistband="flat 2 elastic 1",
                    pleats="none 1 knife 1", fit="flared 2 pencil 1", hem="straight 2 ruffle 1", buttons="none 3 row 1",
                    slit="none 3 side 1"),
    "JUMPSUITS": _type("DRESSES & SKIRTS", "jumpsuit|one-piece", SHIRTING, "belt zip", sleeve="sleeveless 2 short 1 long 1",
                       collar="vneck 2 spread 2 crew 1", zip="none 1 front 1", belt="waist 2 none 1", fit="straight 1 wide 1",
                       pocket="slant 1 none 1"),
    "SNEAKERS": _type("SHOES", "sneakers|trainers", LEATHER, "toe stripes tab", top="low 3 high 2", closure="laces 3 velcro 1",
                      sole="rubber 2 platform 1 gum 1", toe="none 1 cap 1", stripes="none 1 side 1", tab="none 1 heel 1"),
    "BOOTS": _type("SHOES", "boots|leather boots", "solid 1", "closure tab", shaft="ankle 3 knee 2",
                   heel="flat 2 block 2 stiletto 1", closure="none 1 laces 2 zip 1 panels 2", toe="round 2 pointed 1",
                   tab="none 1 pull 1", strap="none 3 buckle 1"),
    "HEELS": _type("SHOES", "heels|pumps", "solid 6 dotted 1 floral 1 checked 1", "heel strap bow",
                   heel="stiletto 3 block 2 kitten 2 wedge 2", toe="pointed 2 round 1 open 1", strap="none 1 ankle 2",
                   bow="none 2 vamp 1"),
    "SANDALS": _type("SHOES", "sandals|slides", "solid 6 striped 1 floral 1", "sole", straps="double 2 cross 1 gladiator 2",
                     sole="flat 2 platform 2 cork 2", buckle="none 1 side 2"),
    "LOAFERS": _type("SHOES", "loafers|slip-ons", "solid 6 checked 1 floral .6", "sole vamp",
                     vamp="penny 2 tassel 2 horsebit 2", sole="leather 2 lug 1", heel="stacked 1", toe="round 1 pointed 1"),
    "TOTES": _type("BAGS", "tote|tote bag|shopper", "solid 7 striped 3 checked 1 floral 1 colour-block 1 dotted 1",
                   "handles base pocket", handles="long 1 short 1", pocket="none 1 front 1", print=PRINTS,
                   base="none 2 panel 1", zip="none 2 top 1"),
    "BACKPACKS": _type("BAGS", "backpack|rucksack", "solid 7 camouflage 1.5 checked 1 floral 1 colour-block 1.5",
                       "pocket straps flap handle", straps="shoulder 1", handle="top 1", flap="buckle 1 none 1",
                       pocket="front 1", zip="front 1"),
    "CLUTCHES": _type("BAGS", "clutch|pouch", "solid 6 floral 1 zigzag 1 checked 1 striped 1 gradient 1", "flap strap tassel",
                      flap="envelope 1 none 1", clasp="metal 1", strap="none 1 wrist 1", tassel="none 2 zip 1"),
    "SHOULDER BAGS": _type("BAGS", "shoulder bag|crossbody bag", LEATHER, "flap strap", strap="leather 1 chain 1",
                           flap="round 2 straight 1", clasp="turn 1 none 1", pocket="none 3 front 1", tassel="none 3 side 1"),
    "CAPS": _type("HATS", "cap|baseball cap", "solid 7 checked 1 camouflage 1 colour-block 1 floral 1", "brim button logo",
                  brim="curved 2 flat 1", button="top 1", logo="front 2 none 1", eyelets="crown 1"),
    "BEANIES": _type("HATS", "beanie|knit hat", "solid 6 striped 3 zigzag 1 colour-block 1", "cuff pompom",
                     cuff="folded 3 none 1", pompom="none 1 top 1", patch="none 2 cuff 1"),
    "BRIMMED HATS": _type("HATS", "hat|fedora", "solid 6 checked 1 pinstriped 1", "band", brim="wide 1 narrow 1",
                          band="ribbon 3 leather 1", feather="none 2 side 1", crown="pinched 2 round 1", bow="none 2 side 1"),
}


DIALS = ("width", "length", "flare", "neck", "sleeve", "pose", "detail", "place", "curve", "size")  # free numbers of a shape
DESIGN, WORDING, SPLIT, PICTURE = 0, 1, 2, 3  # purposes of a generator; pictures use PICTURE + view
ACCENTED = ("stripe", "stripes", "print", "logo", "patch", "feather")  # parts always drawn in the second colour
BRIGHT = ("white", "yellow", "beige", "mint", "pink")  # second colours that show on dark cloth


@dataclass(frozen=True)
class Design:
    """One product. main, second: RGB; features: {key: choice}; contrast: keys drawn in the second colour; dials: numbers in [0, 1)."""

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
    def product_type(self) -> ProductType:
        return PRODUCT_TYPES[self.subcategory]

    def dial(self, name: str, low: float, high: float) -> float:
        return low + (high - low) * self.dials[name]

    def has(self, key: str, *choices: str) -> bool:
        """Whether the product has the feature, as one of the choices if any are given."""
        return key in self.features and (not choices or self.features[key] in choices)

    @property
    def two_coloured(self) -> bool:
        """Whether the second colour is visible: in the pattern, on a contrasting part or on a part that always has it."""
        parts = bool(self.contrast) or any(key in self.features for key in ACCENTED)
        return parts or self.pattern not in ("solid", "pinstriped", "camouflage")

    def ink(self, key: str) -> RGB:
        """Returns the colour of a part: the second colour where it contrasts, else a tone of the main one."""
        return self.second if key in self.contrast else tonal(self.main)

    @overload
    def trim(self, key: str, otherwise: RGB) -> RGB: ...

    @overload
    def trim(self, key: str, otherwise: None = None) -> RGB | None: ...

    def trim(self, key: str, otherwise: RGB | None = None) -> RGB | None:
        """Returns the colour of a part: the second colour where it contrasts, else ``otherwise`` (None = the cloth itself)."""
        return self.second if key in self.contrast else otherwise


def generator(seed: int, index: int, purpose: int) -> np.random.Generator:
    """Returns the generator of one purpose of one product; counter-based, so that no product depends on another."""
    return np.random.Generator(np.random.Philox(key=np.array([seed, index], np.uint64), counter=[0, 0, 0, purpose]))


def pick(odds: Odds, number: float) -> str:
    """Picks a choice by a number in [0, 1)."""
    mark = number * sum(weight for _, weight in odds)
    for name, weight in odds:
        mark -= weight
        if mark < 0:
            return name
    return odds[-1][0]


def subcategory(seed: int, index: int) -> str:
    """Returns the subcategory of a product, roughly balanced: two of three follow a shuffled round of all, the third is random."""
    names = tuple(PRODUCT_TYPES)
    draws = generator(seed, index, DESIGN).random(2)
    if draws[0] < 1 / 3:
        return names[int(draws[1] * len(names))]
    rounds = np.random.Philox(key=np.array([seed, index // len(names)], np.uint64), counter=[1, 0, 0, 0])
    order = np.argsort(np.random.Generator(rounds).random(len(names)), kind="stable")
    return names[int(order[index % len(names)])]


def design(seed: int, index: int) -> Design:
    """Draws one product."""
    name = subcategory(seed, index)
    product_type = PRODUCT_TYPES[name]
    draws = generator(seed, index, DESIGN).random(64)[2:]
    colours = product_type.colours or tuple(COLOURS)
    colour = colours[int(draws[0] * len(colours))]
    accent = _accent(colour, draws[1])
    pattern = pick(product_type.patterns, draws[2])
    contrasting = draws[3] < 0.35 and pattern in ("solid", "colour-block")
    features: dict[str, str] = {}
    contrast: set[str] = set()
    for key, two in zip(product_type.features, draws[20:].reshape(-1, 2), strict=False):
        choice = pick(product_type.features[key], two[0])
        if choice != "none":
            features[key] = choice
            if contrasting and key in product_type.contrast and two[1] < 0.6:
                contrast.add(key)
    dials = dict(zip(DIALS, draws[10:20].tolist(), strict=True))
    return Design(name, colour, accent, pattern, jitter(COLOURS[colour], draws[4:7]), jitter(COLOURS[accent], draws[7:10]),
                  _sensible(name, features, pattern), frozenset(contrast), dials)


def _accent(colour: str, number: float) -> str:
    """Picks a second colour that differs clearly from the first."""
    base = COLOURS[colour]
    far = [name for name, rgb in COLOURS.items() if sum(abs(a - b) for a, b in zip(rgb, base, strict=True)) > 170]
    if luminance(base) < 70:
        far = [name for name in far if name in BRIGHT] or far
    return far[int(number * len(far))]


def _sensible(name: str, features: dict[str, str], pattern: str) -> dict[str, str]:
    """Removes features that exclude each other: a print on a pattern, a pocket under a print, cuffs without sleeves."""
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

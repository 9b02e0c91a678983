"""The description of a product in the manner of a shop: an opening with colour and noun, then its features in short sentences."""

import re
from collections.abc import Iterator

from kaleidobert.drawing.design import ACCENTED, WORDING, Design, generator

# --- Phrases of a shop for each feature; the word in braces names the drawn part

OPENERS: dict[str, dict[str, tuple[str, ...]]] = {
    "sleeve": {"short": ("short {sleeve} ~", "~ with short {sleeves}"), "long": ("long {sleeve} ~", "~ with long {sleeves}"),
               "elbow": ("half {sleeve} ~", "~ with half {sleeves}"), "puff": ("~ with puff {sleeves}", "puff {sleeve} ~"),
               "sleeveless": ("sleeveless ~",)},
    "straps": {"thin": ("~ with spaghetti {straps}",), "halter": ("halter ~",), "single": ("one-shoulder ~",),
               "double": ("two-strap ~",), "gladiator": ("gladiator ~",)},
    "hood": {"soft": ("hooded ~",)},
    "fit": {"skinny": ("skinny-fit ~", "slim ~"), "straight": ("straight-leg ~",), "flared": ("flared ~",),
            "wide": ("wide-leg ~",), "pencil": ("pencil ~",)},
    "pleats": {"knife": ("pleated ~",)},
    "top": {"low": ("low-top ~",), "high": ("high-top ~",)},
    "shaft": {"ankle": ("ankle-high ~", "ankle ~"), "knee": ("knee-high ~", "tall ~")},
    "heel": {"stiletto": ("stiletto {heel} ~", "~ on a stiletto {heel}"), "block": ("~ with block {heel}",),
             "kitten": ("kitten {heel} ~",), "wedge": ("wedge {heel} ~", "~ on a wedge {heel}")},
    "vamp": {"penny": ("penny ~",), "tassel": ("tasseled ~",)},
    "brim": {"wide": ("wide {brim} ~",), "narrow": ("narrow {brim} ~",)},
    "buttons": {"double": ("double-breasted ~",)},
    "flap": {"envelope": ("envelope ~",)},
    "print": {"*": ("~ with * {print}", "graphic ~")},
    "pompom": {"top": ("~ with {pompom}",)},
    "handles": {"long": ("~ with long {handles}",)},
}

PHRASES: dict[str, dict[str, tuple[str, ...]]] = {
    "sleeve": {"short": ("short {sleeves}", "{sleeves} cut short"), "long": ("long {sleeves}", "full-length {sleeves}"),
               "elbow": ("elbow-length {sleeves}", "half {sleeves}"), "puff": ("puffed {sleeves}", "gathered puff {sleeves}"),
               "sleeveless": ("sleeveless cut",)},
    "collar": {"crew": ("crewneck {collar}", "round {neckline}", "ribbed crew {neckline}"),
               "vneck": ("V-neck {collar}", "V-shaped {neckline}"), "scoop": ("scoop {neckline}", "scoop neck {collar}"),
               "square": ("square {neckline}", "square neck {collar}"),
               "turtle": ("ribbed {turtleneck}", "fold-over {turtleneck}"), "spread": ("spread {collar}", "pointed {collar}"),
               "band": ("band {collar}", "stand-up band {collar}"), "polo": ("polo {collar}", "turn-down {collar}"),
               "notch": ("notched {lapels}", "notched lapel {collar}"), "peak": ("peaked {lapels}", "wide peaked {lapels}"),
               "shawl": ("shawl {collar}", "rounded shawl {lapels}"), "stand": ("rib knit stand {collar}", "ribbed {collar}"),
               "funnel": ("high funnel {collar}", "padded {collar}")},
    "pocket": {"chest": ("patch {pocket} at chest", "single breast {pocket}"),
               "two": ("two chest {pockets}", "patch {pockets} at chest"),
               "kangaroo": ("kangaroo {pocket}", "pouch {pocket} at front"),
               "patch": ("patch {pockets} at waist", "two patch {pockets}"),
               "flap": ("flap {pockets} at waist", "flap {pockets}"), "welt": ("welt {pockets}", "welt {pockets} at waist"),
               "slant": ("slant {pockets} at waist", "slash {pockets}"),
               "zip": ("zippered {pockets}", "zip {pockets} at sides"),
               "five": ("curved front {pockets}", "scoop {pockets} at hips"),
               "cargo": ("cargo {pockets} at legs", "flapped cargo {pockets}"),
               "front": ("patch {pocket} at front", "front {pocket}", "exterior {pocket}")},
    "print": {"*": ("* {print} at front", "printed * {graphic}", "* {graphic} at center")},
    "logo": {"*": ("embroidered {logo}", "small {logo} badge", "{logo} at front")},
    "cuffs": {"trim": ("banded {cuffs}", "trimmed {cuffs}"), "barrel": ("buttoned {cuffs}", "single-button barrel {cuffs}"),
              "ribbed": ("rib knit {cuffs}", "ribbed {cuffs}"), "tab": ("turned {cuffs}", "banded {cuffs}"),
              "elastic": ("elasticized {cuffs}",), "rolled": ("rolled {cuffs}", "turn-up {cuffs}")},
    "hem": {"straight": ("straight {hem}", "even {hem}"), "curved": ("curved {hem}", "shirttail {hem}"),
            "vented": ("vented {hem}", "{hem} with vents"), "cropped": ("cropped {hem}",),
            "flared": ("flared {hem}", "swinging {hem}"), "ribbed": ("rib knit {hem}", "ribbed {hem}"),
            "ruffle": ("ruffled {hem}", "flounced {hem}"), "mermaid": ("mermaid {hem}", "fishtail {hem}")},
    "buttons": {"row": ("{buttons} at front", "front {buttons}", "closes with {buttons}"),
                "double": ("double-breasted {buttons}", "two rows of {buttons}"),
                "one": ("single {button} closure", "one {button} at front"),
                "two": ("two {buttons} at front", "two-{button} closure")},
    "button": {"front": ("metal {button} at waist", "shank {button}"), "top": ("covered {button} at crown", "{button} on top")},
    "placket": {"buttons": ("two-button {placket}", "short buttoned {placket}"),
                "zip": ("zipped {placket}", "half-zip {placket}")},
    "zip": {"front": ("{zip} closure at front", "full front {zip}", "{zipper} at front"),
            "top": ("{zip} closure at top", "top {zipper}")},
    "hood": {"soft": ("attached {hood}", "roomy {hood}")},
    "drawstring": {"hood": ("{drawstring} at hood", "hood with {drawstring}"),
                   "waist": ("{drawstring} at waist", "inner {drawstring}")},
    "belt": {"waist": ("{belt} at waist", "matching {belt}"), "sash": ("{sash} at waist", "satin {sash}")},
    "waistband": {"loops": ("{waistband} with loops", "looped {waistband}"),
                  "elastic": ("elasticized {waistband}", "gathered {waistband}"),
                  "flat": ("flat {waistband}", "banded {waistband}")},
    "rips": {"knee": ("{rips} at knees", "distressed {knees}", "ripped {knees}")},
    "stripe": {"side": ("{stripe} at sides", "side {stripe}")},
    "straps": {"thin": ("thin {straps}", "slim shoulder {straps}"), "wide": ("wide {straps}", "broad shoulder {straps}"),
               "halter": ("halter {strap}",), "single": ("single shoulder {strap}",),
               "double": ("two {straps}", "double {straps}"), "cross": ("crossed {straps}", "crossover {straps}"),
               "gladiator": ("gladiator {straps}", "slim {straps} throughout"),
               "shoulder": ("adjustable {straps}", "padded shoulder {straps}")},
    "bodice": {"sweetheart": ("sweetheart {bodice}", "heart-shaped {bodice}"),
               "straight": ("fitted {bodice}", "straight {bodice}")},
    "slit": {"side": ("side {slit}", "{slit} at side")},
    "fit": {"skinny": ("slim fit",), "straight": ("straight fit",), "flared": ("flared shape",), "wide": ("wide leg",),
            "pencil": ("close fit",)},
    "pleats": {"knife": ("knife pleats throughout", "pleats throughout")},
    "top": {"low": ("low cut",), "high": ("high cut",)},
    "closure": {"laces": ("lace-up front with {laces}", "{laces} at front", "flat {laces}"),
                "velcro": ("touch-close {straps}", "velcro {straps}"), "zip": ("side {zip}", "{zipper} at side"),
                "panels": ("elastic side {panels}", "stretch {panels}")},
    "sole": {"rubber": ("rubber {sole}", "pale rubber {sole}"), "platform": ("platform {sole}", "thick {sole}"),
             "gum": ("gum {sole}", "gum rubber {sole}"), "flat": ("flat {sole}", "thin {sole}"),
             "cork": ("cork {sole}", "molded cork {footbed}"), "leather": ("stitched {sole}", "slim {sole}"),
             "lug": ("lug {sole}", "treaded {sole}")},
    "toe": {"cap": ("cap {toe}", "rubber cap at {toe}"), "round": ("round {toe}", "rounded {toe}"),
            "pointed": ("pointed {toe}",), "open": ("open {toe}", "peep {toe}")},
    "stripes": {"side": ("three {stripes} at side", "side {stripes}")},
    "tab": {"heel": ("{tab} at heel", "heel {tab}"), "pull": ("pull {tab} at back", "pull {loop}")},
    "shaft": {"ankle": ("ankle-high {shaft}", "short {shaft}"), "knee": ("knee-high {shaft}", "tall {shaft}")},
    "heel": {"flat": ("flat {heel}", "low {heel}"), "block": ("block {heel}", "chunky {heel}"),
             "stiletto": ("stiletto {heel}", "high slim {heel}"), "kitten": ("kitten {heel}", "low slim {heel}"),
             "wedge": ("wedge {heel}", "covered {wedge}"), "stacked": ("stacked {heel}", "low {heel}")},
    "strap": {"buckle": ("buckled {strap}", "{strap} with buckle"), "ankle": ("ankle {strap}", "buckled {strap} at ankle"),
              "wrist": ("wrist {strap}", "looped {strap}"), "leather": ("shoulder {strap}", "single {strap}"),
              "chain": ("chain {strap}", "gold chain {strap}")},
    "bow": {"vamp": ("{bow} at toe", "flat {bow} detail"), "side": ("{bow} at side", "side {bow}")},
    "buckle": {"side": ("metal {buckle}", "pin {buckle}")},
    "vamp": {"penny": ("penny {strap} at vamp", "slotted {saddle}"), "tassel": ("{tassels} at vamp", "leather {tassels}"),
             "horsebit": ("gold {horsebit}", "metal {bit} at vamp")},
    "handles": {"long": ("long {handles}", "carrying {handles}"), "short": ("short {handles}", "top {handles}")},
    "handle": {"top": ("top {handle}", "carry {handle}")},
    "base": {"panel": ("{panel} at base", "reinforced {base}")},
    "flap": {"buckle": ("foldover {flap}", "{flap} with buckles"), "envelope": ("envelope {flap}", "pointed {flap}"),
             "round": ("rounded {flap}", "curved {flap}"), "straight": ("straight {flap}", "foldover {flap}")},
    "clasp": {"metal": ("metal {clasp}", "gold {clasp}"), "turn": ("turn-lock {clasp}", "gold {lock}")},
    "tassel": {"*": ("{tassel} charm", "fringed {tassel}")},
    "brim": {"curved": ("curved {brim}", "bent {visor}"), "flat": ("flat {brim}", "flat {visor}"),
             "wide": ("wide {brim}", "broad {brim}"), "narrow": ("narrow {brim}", "short {brim}")},
    "eyelets": {"crown": ("stitched {eyelets}", "{eyelets} at crown")},
    "cuff": {"folded": ("folded {cuff}", "rolled {brim}", "turned-up {cuff}")},
    "pompom": {"top": ("{pompom} at crown", "fluffy {pompom}")},
    "patch": {"cuff": ("square {patch} at front", "sewn {patch}")},
    "band": {"ribbon": ("ribbon {band}", "grosgrain {band}"), "leather": ("leather {band}", "thin {band}")},
    "feather": {"side": ("{feather} at side", "single {feather}")},
    "crown": {"pinched": ("pinched {crown}", "dented {crown}"), "round": ("round {crown}", "domed {crown}")},
}

PATTERNS: dict[str, tuple[str, tuple[str, ...]]] = {  # adjective, sentences ("%" is the second colour)
    "striped": ("striped", ("stripes throughout", "stripes in %", "striped")),
    "pinstriped": ("pinstriped", ("fine pinstripes", "pinstripes throughout")),
    "checked": ("checked", ("checks in %", "check pattern throughout", "plaid")),
    "dotted": ("dotted", ("polka dots in %", "dots throughout", "dotted with %")),
    "floral": ("floral", ("flowers in %", "floral pattern throughout", "allover flowers")),
    "zigzag": ("zigzag", ("zigzag pattern in %", "zigzag throughout")),
    "colour-block": ("color-block", ("color-blocked in %", "lower panel in %", "paneled in %")),
    "camouflage": ("camouflage", ("camouflage throughout", "camo pattern")),
    "gradient": ("ombre", ("fades to %", "gradient to %", "faded towards %")),
}


# features of which the drawn part has another key
SHOWN_AS = {("closure", "laces"): "laces", ("closure", "velcro"): "straps", ("closure", "zip"): "zip",
            ("closure", "panels"): "panels",
            ("vamp", "penny"): "strap", ("vamp", "tassel"): "tassel", ("vamp", "horsebit"): "horsebit"}
MENTIONED = 0.88  # probability with which a feature is mentioned
SELDOM_MENTIONED = {("hem", "straight"): 0.35, ("toe", "round"): 0.5, ("eyelets", "crown"): 0.4, ("button", "top"): 0.5,
                    ("waistband", "loops"): 0.5, ("waistband", "flat"): 0.6, ("heel", "stacked"): 0.5, ("crown", "round"): 0.5,
                    ("handle", "top"): 0.6, ("fit", "straight"): 0.4, ("top", "low"): 0.3}  # choices that are taken for granted


def describe(design: Design, seed: int, index: int) -> tuple[str, dict[str, str]]:
    """Returns (the text, {key of a drawn part: the word of the text that names it}); every such word occurs in the text."""
    draws = iter(generator(seed, index, WORDING).random(96).tolist())
    words: dict[str, str] = {}
    mentioned: set[str] = set()
    opening = _opening(design, draws, words, mentioned)
    sentences = []
    for key, choice in design.features.items():
        keep, which, accent = next(draws), next(draws), next(draws)
        if key not in mentioned and keep < SELDOM_MENTIONED.get((key, choice), MENTIONED):
            sentences.append(_feature(design, key, choice, which, accent, words))
    pattern, where = next(draws), next(draws)
    if design.pattern != "solid" and "pattern" not in mentioned:
        phrase = _choose(PATTERNS[design.pattern][1], pattern).replace("%", design.accent)
        sentences.insert(int(where * (len(sentences) + 1)), phrase)
    _vary(sentences, draws)
    return " ".join(sentence[0].upper() + sentence[1:] + "." for sentence in [opening, *sentences]), words


def _opening(design: Design, draws: Iterator[float], words: dict[str, str], mentioned: set[str]) -> str:
    """Makes the opening of noun, colour and at most two qualities, in one of several orders."""
    nouns = design.product_type.nouns
    number = next(draws)
    noun = nouns[0] if number < 0.68 or len(nouns) == 1 else nouns[1 + int((number - 0.68) / 0.32 * (len(nouns) - 1))]
    before, after = [], ""
    openers = [key for key in design.features if _table(OPENERS, key, design.features[key])]
    use, which, form, adjective, two = (next(draws) for _ in range(5))
    if openers and use < 0.72:
        key = openers[int(use / 0.72 * len(openers))]
        phrase = _choose(_table(OPENERS, key, design.features[key]), which)
        if not (phrase.startswith("hooded") and "hooded" in noun):
            mentioned |= {key} if key != "print" or "{" in phrase else set()
            phrase = _name(phrase.replace("*", design.features[key]), key, design, words)
            if phrase.startswith("~"):
                after = phrase[1:]
            else:
                before.append(phrase[:-2])
    if design.pattern != "solid" and adjective < 0.5:
        before.append(PATTERNS[design.pattern][0])
        mentioned.add("pattern")
    colour = design.colour
    if "pattern" in mentioned and design.pattern not in ("pinstriped", "camouflage") and two < 0.6:
        colour += f" and {design.accent}"
    start = " ".join(before)
    if form < 0.5:
        return f"{start} {noun}{after} in {colour}".strip()
    if form < 0.75 and " and " not in colour:
        return f"{colour} {start} {noun}{after}".replace("  ", " ")
    return f"{start} {colour} {noun}{after}".strip()


def _feature(design: Design, key: str, choice: str, which: float, accent: float, words: dict[str, str]) -> str:
    phrase = _choose(_table(PHRASES, key, choice), which).replace("*", choice)
    phrase = _name(phrase, key, design, words)
    if (key in design.contrast and accent < 0.85) or (key in ACCENTED and accent < 0.5):
        phrase += f" in {design.accent}"
    return phrase


def _name(phrase: str, key: str, design: Design, words: dict[str, str]) -> str:
    """Removes the braces and notes the word between them."""
    match = re.search(r"{(\w+)}", phrase)
    if match:
        words[SHOWN_AS.get((key, design.features[key]), key)] = match[1]
    return phrase.replace("{", "").replace("}", "")


def _vary(sentences: list[str], draws: Iterator[float]) -> None:
    """Swaps two neighbours, or joins two short sentences, now and then."""
    swap, join, first, other = (next(draws) for _ in range(4))
    if len(sentences) > 1 and swap < 0.5:
        k = int(first * (len(sentences) - 1))
        sentences[k], sentences[k + 1] = sentences[k + 1], sentences[k]
    if len(sentences) > 2 and join < 0.3:
        k = int(other * (len(sentences) - 1))
        if not any(word in sentences[k] + sentences[k + 1] for word in (" with ", " and ", "closes ", " in ")):
            sentences[k:k + 2] = [f"{sentences[k]} and {sentences[k + 1]}"]


def _choose(phrases: tuple[str, ...], number: float) -> str:
    return phrases[int(number * len(phrases))]


def _table(table: dict[str, dict[str, tuple[str, ...]]], key: str, choice: str) -> tuple[str, ...]:
    choices = table.get(key, {})
    return choices.get(choice, choices.get("*", ()))

"""The description of a product in the manner of a shop: an opening with colour and noun, then its features in short sentences."""

import re
from collections.abc import Iterator

from kaleidobert.drawing.design import ACCENTED, WORDING, Design, generator
from kaleidobert.drawing.phrases import OPENERS, PATTERNS, PHRASES

# features of which the drawn part has another key
SHOWN_AS = {("closure", "laces"): "laces", ("closure", "velcro"): "straps", ("closure", "zip"): "zip",
            ("closure", "panels"): "panels",
            ("vamp", "penny"): "strap", ("vamp", "tassel"): "tassel", ("vamp", "horsebit"): "horsebit"}
KEPT = 0.88  # a feature is mentioned with this probability ...
PLAIN = {("hem", "straight"): 0.35, ("toe", "round"): 0.5, ("eyelets", "crown"): 0.4, ("button", "top"): 0.5,
         ("waistband", "loops"): 0.5,
         ("waistband", "flat"): 0.6, ("heel", "stacked"): 0.5, ("crown",
                                                                "round"): 0.5, ("handle", "top"): 0.6, ("fit", "straight"): 0.4,
         ("top", "low"): 0.3}  # ... and what goes without saying with a smaller one


def describe(design: Design, seed: int, index: int) -> tuple[str, dict[str, str]]:
    """(the text, {key of a drawn part: the word of the text that names it}); every such word occurs in the text."""
    lots = iter(generator(seed, index, WORDING).random(96).tolist())
    words: dict[str, str] = {}
    said: set[str] = set()
    opening = _opening(design, lots, words, said)
    sentences = []
    for key, choice in design.features.items():
        keep, which, accent = next(lots), next(lots), next(lots)
        if key not in said and keep < PLAIN.get((key, choice), KEPT):
            sentences.append(_feature(design, key, choice, which, accent, words))
    pattern, where = next(lots), next(lots)
    if design.pattern != "solid" and "pattern" not in said:
        phrase = _choose(PATTERNS[design.pattern][1], pattern).replace("%", design.accent)
        sentences.insert(int(where * (len(sentences) + 1)), phrase)
    _vary(sentences, lots)
    return " ".join(sentence[0].upper() + sentence[1:] + "." for sentence in [opening, *sentences]), words


def _opening(design: Design, lots: Iterator[float], words: dict[str, str], said: set[str]) -> str:
    """Noun, colour and at most two qualities, in one of several orders."""
    nouns = design.kind.nouns
    lot = next(lots)
    noun = nouns[0] if lot < 0.68 or len(nouns) == 1 else nouns[1 + int((lot - 0.68) / 0.32 * (len(nouns) - 1))]
    before, after = [], ""
    openers = [key for key in design.features if _table(OPENERS, key, design.features[key])]
    use, which, form, adjective, two = (next(lots) for _ in range(5))
    if openers and use < 0.72:
        key = openers[int(use / 0.72 * len(openers))]
        phrase = _choose(_table(OPENERS, key, design.features[key]), which)
        if not (phrase.startswith("hooded") and "hooded" in noun):
            said |= {key} if key != "print" or "{" in phrase else set()
            phrase = _name(phrase.replace("*", design.features[key]), key, design, words)
            if phrase.startswith("~"):
                after = phrase[1:]
            else:
                before.append(phrase[:-2])
    if design.pattern != "solid" and adjective < 0.5:
        before.append(PATTERNS[design.pattern][0])
        said.add("pattern")
    colour = design.colour
    if "pattern" in said and design.pattern not in ("pinstriped", "camouflage") and two < 0.6:
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
    """Take the braces away and remember the word between them."""
    found = re.search(r"{(\w+)}", phrase)
    if found:
        words[SHOWN_AS.get((key, design.features[key]), key)] = found[1]
    return phrase.replace("{", "").replace("}", "")


def _vary(sentences: list[str], lots: Iterator[float]) -> None:
    """Now and then two neighbours change places, or two short ones become one."""
    swap, join, place, other = (next(lots) for _ in range(4))
    if len(sentences) > 1 and swap < 0.5:
        k = int(place * (len(sentences) - 1))
        sentences[k], sentences[k + 1] = sentences[k + 1], sentences[k]
    if len(sentences) > 2 and join < 0.3:
        k = int(other * (len(sentences) - 1))
        if not any(word in sentences[k] + sentences[k + 1] for word in (" with ", " and ", "closes ", " in ")):
            sentences[k:k + 2] = [f"{sentences[k]} and {sentences[k + 1]}"]


def _choose(phrases: tuple[str, ...], lot: float) -> str:
    return phrases[int(lot * len(phrases))]


def _table(table: dict[str, dict[str, tuple[str, ...]]], key: str, choice: str) -> tuple[str, ...]:
    choices = table.get(key, {})
    return choices.get(choice, choices.get("*", ()))

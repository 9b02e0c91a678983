"""Words and punctuation marks back to a text: where a space goes between them is learnt from texts ("t-shirt", "100%, lined")."""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import pairwise

TOKEN = re.compile(r"[^\W_]+|[^\w\s]|_")  # as tokenizers split: a punctuation mark stands alone


class Spacing:
    """Learns from texts, then writes words as a text.

    >>> Spacing(["A t-shirt, 100% cotton."]).write("a t - shirt , 50 % wool".split())
    'a t-shirt, 50% wool'
    """

    def __init__(self, texts: Iterable[str]):
        self._joined, self._seen = Counter(), Counter()
        for text in texts:
            for left, right in pairwise(TOKEN.finditer(text.lower())):
                if not (left[0].isalnum() and right[0].isalnum()):  # between two words there is always one
                    for pair in _views(left[0], right[0]):
                        self._seen[pair] += 1
                        self._joined[pair] += left.end() == right.start()

    def write(self, words: Sequence[str]) -> str:
        """The words with spaces as the same two mostly had them, else two of their kinds; a pair never seen gets one."""
        text = "".join(word if number == 0 or self._touch(words[number - 1], word) else f" {word}" for number, word in enumerate(words))
        return text.strip()

    def _touch(self, left: str, right: str) -> bool:
        pair = next((pair for pair in _views(left, right) if self._seen[pair]), None)
        return pair is not None and 2 * self._joined[pair] > self._seen[pair]


def _views(left: str, right: str) -> list[tuple[str, str]]:
    """Two neighbours as they are, with words and numbers told apart, and as words: marks stay what they are."""
    kinds = [[word] * 3 if not word[:1].isalnum() else [word, "9" if word[0].isdigit() else "w", "w"] for word in (left, right)]
    return list(zip(*kinds))

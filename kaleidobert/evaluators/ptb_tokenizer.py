"""The words of captions in the COCO caption evaluation: Penn Treebank tokens in lower case, without punctuation.

That evaluation uses the tokens of a Java program (PTBTokenizer of Stanford CoreNLP 3.4.1, as pycocoevalcap runs it); this module computes
the same tokens in Python. Its rules and lists come from the program's outputs, not from its code; where Java is installed,
``benchmarks.caption_metrics`` compares the two again.

At each position of a text the rule with the longest match wins, its lookahead included; of equals the first one. Known differences, none
of them in a catalogue's texts: a character that ends a line in Java (vertical tab, form feed, U+2028) is a blank here, where the program
counts one caption as two; so is the end of a line within a <tag>; some addresses and emoticons; letters that Unicode has had since 2010.
"""

import re
from collections.abc import Callable, Iterable, Iterator

# What the evaluation removes. Its list has brackets as -LRB-, the program writes -lrb-, so they stay.
PUNCTUATION = frozenset("'' ' `` ` . ? ! , : - -- ... ;".split())

# --- pieces of rules ---------------------------------------------------------------------------------------------------

# Numbers that Python takes for letters are none: superscripts, fractions, circled digits. Some letters may be entities.
_L = (r"(?:[^\W\d_\xb2\xb3\xb9\xbc-\xbe\u2070\u2074-\u2079\u2080-\u2089\u2150-\u218b\u2460-\u24ff\u2776-\u2793]"
      r"|&[aeiou](?:acute|grave|uml);)")
_MARK = r"\xad\u02c2-\u02c5\u02d2-\u02df\u02e5-\u036f"  # soft hyphen, accents: within words only
_X = rf"(?:{_L}|[\d{_MARK}])"  # inside a word
_RUN = rf"{_L}{_X}*"
_WORD = rf"{_RUN}(?:[.!?]{_RUN})*"
_A = r"(?:['\x92\u2019]|&apos;)"
_B = r"(?:['`\x91\x92\u2018\u2019]|&apos;)"
_NUMBER = r"(?:\d*(?:[.:,\xad\u066b\u066c]\d+)+|\d+)"
_LETTERS = r"[A-Za-z](?:\.[A-Za-z])+"  # of an acronym, before its last point
_GAP = r"[ \t\xa0]"

# Abbreviations keep their point: those that come before a name, and those that may end a sentence. Of the latter some are ones only
# with a capital; some of both are none in capitals throughout; and some words are only before a digit.
_BEFORE_NAMES = ("adj adm adv alex assoc asst atty ave brig capt cf cie cmdr col comdr cpl dept det dr drs elec ens ft gen gov govs hon "
                 "insp jos lieut lt maj messrs mlle mme mr mrs ms msgr mt natl pfc ph pres prof pvt rep reps rev sen sens sfc sgt spc st "
                 "ste supt treas vs wm")
_AT_ENDS = ("al ala apr ariz assn aug bancorp bhd bldg blvd bros calif co colo conn corp cos ct dak dec esq est etc ext feb fla fri "
            "ga inc ind intl jan jr jul jun kan kans ky ltd mar md mich minn mo mon mont neb nev nov oct okla penn plc rd rt sep "
            "sept seq sq sr sys tel tenn thu tue tues univ va vt wed wis wisc wyo ph[.]d")
_CAPITAL = "ark az del ill la mass miss ore pa tex wash"
_MIXED_BEFORE_NAMES, _MIXED_AT_ENDS = "invt mfg mtg", "ppte ppty pte ptes pty ptys"
_BEFORE_DIGITS = "art ca fig figs no nos op pp prop"


def _any(words: str, capital: str = "", mixed: str = "") -> str:
    """Makes a choice of words; those of ``capital`` begin with one; the first letter of ``mixed`` may be one, the others not."""
    choices = words.split()
    choices += [f"(?-i:{word[0].upper()}){word[1:]}" for word in capital.split()]
    choices += [f"{word[0]}(?-i:{word[1:]})" for word in mixed.split()]
    return f"(?:{'|'.join(choices)})"


# With one of these behind it, a single letter ends a sentence and loses its point.
_STARTS = ("a about according additionally after an as at but earlier he her here however if in it last many more now once one other our "
           "she since so some such that the their then there these they this we what when while yet you")
_START = _any("", capital=_STARTS)

_ENDINGS_OF_FILES = ("bat bmp c cgi class cpp dll docx? exe gif gz h html? jar java jpe?g mov mp3 pdf php pl png ppt ps py sql tar txt wav "
                     "x xml zip")

# --- rules ------------------------------------------------------------------------------------------------------------

_PIECE = rf"(?:[dol]{_B}{_X})?{_X}+"
_PIECES = rf"{_PIECE}(?:[-_]{_PIECE})+"
_HYPHENED = rf"[a-z0-9][a-z0-9.,\xad]*(?:-(?:{_LETTERS}\.|[a-z0-9\xad]+))+"
_PATH = r"/[^ \t\"<>|()\n]+[^ \t\"<>|().!?,\n-]"
_SLASHES = r"[A-Za-z0-9]+(?:-[A-Za-z]+){0,2}"
_QUOTES = dict(zip("\x91\x92\x93\x94\xab\xbb\u2018\u2019\u201b\u201c\u201d\u2039\u203a", "` ' `` '' `` '' ` ' ` `` '' ` '".split()))
_ENDING = rf"{_any(_AT_ENDS, _CAPITAL, _MIXED_AT_ENDS)}\."
_BACK = {"(": "-LRB-", ")": "-RRB-"}


def _brackets(text: str) -> str:
    return re.sub(r"[()]", lambda bracket: _BACK[bracket[0]], text)


def _joined(text: str) -> str:
    """Turns blanks inside a token into no-break spaces, as in the program's output."""
    return re.sub(_GAP, "\xa0", text)


def _straight(text: str) -> str:
    return "".join(_QUOTES.get(letter, letter) for letter in text.replace("&apos;", "'"))


# (pattern, spelling of the token). With a lookahead, the token is the group before it.
_TABLE: list[tuple[str, Callable[[str], str] | str | None]] = [
    (r"(can)not", None),
    (r"(gon|wan)na", None),
    (r"(got)ta", None),
    (r"(gim|lem)me", None),
    (rf"({_A}t)(?:is|was)", None),
    (rf"({_WORD}){_A}(?:[msd]|re|ve|ll)", None),
    (rf"([a-z\xad]+)n{_B}t", None),
    (_WORD, None),
    # words that hold an apostrophe
    (rf"{_A}n{_A}?|[ldj]{_A}|dunkin{_A}|somethin{_A}|ol{_A}|{_A}em|{_A}[2-9]0s|{_A}til|{_A}cause|c'mon|o{_A}o", None),
    (rf"(?-i:[A-HJ-XZn]){_B}{_L}{{2}}{_L}*", None),
    (rf"[dlo]{_B}{_X}{{2}}{_X}*", None),
    (rf"{_L}+[aeiouy]{_B}(?-i:[aeiouA-Z]){_L}*", None),
    (rf"(y{_A}){_L}", None),
    (rf"({_A}(?:[msd]|re|ve|ll))(?:[^A-Za-z]|\Z)", _straight),
    (r"[\x92\u2019](?:[msd]|re|ve|ll)", _straight),
    (rf"(n{_B}t)(?:[^A-Za-z]|\Z)", _straight),
    # addresses
    (rf"https?:/{_PATH}", None),
    (rf"www\.(?:[^ \t\"<>|.!?(){{}},\n]+\.)+[a-z]{{2,4}}(?:{_PATH})?", None),
    (rf"(?-i:(?:[^A-Z \t\"`'<>|.!?(){{}},_$/:;=\[\]\n-]+\.)+(?:com|net|org|edu))(?:{_PATH})?", None),
    (r"[a-z0-9][^ \t\"<>|(){}\n]*@(?:[^ \t\"<>|(){}.\n]+\.)*[^ \t\"<>|(){}.\n]+", None),
    (rf"({_X}+(?:\.{_X}+)*\.{_any(_ENDINGS_OF_FILES)})[\s.?!,]", None),
    (rf"@[a-z_][a-z0-9_]*|#{_L}+", None),
    (r"</?[a-z!?][^>\n]*>", _joined),
    # numbers
    (rf"[-+]?{_NUMBER}", None),
    (r"\d{1,2}[-/]\d{1,2}[-/]\d{2,4}", None),
    (r"(?:\d{1,4}[- \xa0])?\d{1,4}(?:\\?/|\u2044)\d{1,4}", _joined),
    (r"(?:\([0-9]{2,3}\)[ \xa0]?|(?:\+\+?)?(?:[0-9]{2,4}[- \xa0])?[0-9]{2,4}[- \xa0])[0-9]{3,4}[- \xa0]?[0-9]{3,5}",
     lambda text: _brackets(_joined(text))),
    (r"(?:\+\+?)?(?:[0-9]{2,4}\.)?[0-9]{2,4}\.[0-9]{3,4}\.[0-9]{3,5}", None),
    (r"\xbc", "1/4"), (r"\xbd", "1/2"), (r"\xbe", "3/4"), (r"\u2153", "1/3"), (r"\u2154", "2/3"),
    (rf"({_A}\d\d)(?:\s|\Z)", None),
    (r"(?-i:[A-Z]*)\$|#", None),
    (r"\xa2", "cents"), (r"\xa3", "#"), (r"[\x80\xa4\u20a0\u20ac]", "$"),
    (rf"({_ENDING})(?s:..)", None),
    (_ENDING, None),
    # words with hyphens, slashes, ampersands
    (_PIECES, None),
    (_HYPHENED, None),
    (rf"{_SLASHES}(?:\\?/{_SLASHES}){{1,2}}", None),
    (rf"(?:{_L}|\d){_X}*", None),
    (r"(?-i:[A-Z]+(?:(?:[+&]|&amp;)[A-Z]+)+)", lambda text: text.replace("&amp;", "&")),
    (r"C\+\+|[CF]#", None),
    # abbreviations
    (rf"{_any(_BEFORE_NAMES + ' [a-z]', mixed=_MIXED_BEFORE_NAMES)}\.", None),
    (rf"({_any(_BEFORE_DIGITS)}\.)\s?\d", None),
    (rf"([a-z])\.\s+(?:{_START})\s", None),
    (rf"{_LETTERS}\.", None),
    (rf"((?:{_WORD}|{_X}+|{_PIECES}|{_HYPHENED})\.)[,;:]", None),
    # emoticons
    (r"[-^x=~<>']_[-^x=~<>']", None),
    (r"([<>]?[:;=](?-i:[-o*']?[(){DPdpO\\@|\[\]]))(?:[^A-Za-z0-9]|\Z)", _brackets),
    # marks
    (r"&amp;", "&"), (r"&lt;", "<"), (r"&gt;", ">"), (r"&nbsp;", ""), (r"&quot;", "''"), (r"&[mn]dash;", "--"),
    (r"\.{3,}|\.(?: \.){2,}|\u2026|\x85", "..."),
    (r"--+|[\x96\x97\u2013-\u2015]", "--"),
    (r"[?!]{2,}", None),
    (r"``|\"|''|[\x93\x94\xab\xbb\u201c\u201d]", "''"),
    (r"[`\x91-\x94\u2018\u2019\u201b-\u201d]{2}", _straight),  # stays where it makes three marks or more
    (r"(')[A-Za-z][^ \t\n\xa0]", "'"),
    (r"['`\x91\x92\u2018\u2019\u201b\u2039\u203a]", "'"),
    (r"\(", "-LRB-"), (r"\)", "-RRB-"), (r"\[", "-LSB-"), (r"\]", "-RSB-"), (r"\{", "-LCB-"), (r"\}", "-RCB-"),
    (r"\xad", "-"),
    (r"anti-|pro-|[\xb2\xb3\xb9\u2070\u2074-\u2079]+|[\u2080-\u2089]+", None),
    (r"(?:\\\*)+|\*+|_+|#+|@+|\^+|<<|>>", None),
    (r"[!-~\xa1-\xbf\xd7\xf7\u02c2-\u036f\u2016-\u203b\u203e-\u2042\u2044\u2070-\u208e\u2100-\u214f\u2155-\u215e\u2190-\u2bff\u3001\u3002"
     r"\uff01-\uff65]", None),
]
_RULES = [(re.compile(pattern, re.IGNORECASE), spelling) for pattern, spelling in _TABLE]
_PLAIN = re.compile(r"([A-Za-z]+|\d+)(?= ?\n| [A-Za-z])")  # most words: nothing else can begin there
_TWICE = {"cannot", "gonna", "wanna", "gotta", "gimme", "lemme"}
_BLANK = re.compile(r"\s*")
_NEW_LINE = re.compile(r"[\n\r\v\f\x1c-\x1f\x85\u2028\u2029]")


def tokenize(text: str) -> list[str]:
    """Returns the words of one caption, in lower case, without punctuation; a no-break space is a blank inside a word ("1\\xa01/2").

    >>> tokenize("Levi's Men's (Pack of 2) T-shirt, 100% cotton.")
    ['levi', "'s", 'men', "'s", '-lrb-', 'pack', 'of', '2', '-rrb-', 't-shirt', '100', '%', 'cotton']
    """
    return tokenize_all([text])[0]


def tokenize_all(texts: Iterable[str]) -> list[list[str]]:
    """Returns the words of each caption of a file, as ``tokenize``.

    Like the program, this looks past the end of a caption: "Volume: 29 L." keeps its last point, unless the next caption begins with "The"
    or another word that begins sentences. One in 50,000 texts of a catalogue depends on the next one in this way.
    """
    lines = [_NEW_LINE.sub(" ", text) for text in texts]
    whole, position, tokens = "\n".join(lines), 0, []
    for line in lines:
        tokens.append(list(_scan(whole, position, position + len(line))))
        position += len(line) + 1
    return tokens


def _scan(text: str, position: int, stop: int) -> Iterator[str]:
    """Yields the tokens that begin at ``position`` or later and before ``stop``, in lower case, without punctuation."""
    while (position := _BLANK.match(text, position).end()) < stop:  # type: ignore[union-attr]  # it matches nothing at all, too
        if (plain := _PLAIN.match(text, position)) and plain[1].lower() not in _TWICE:
            token, position = plain[1], plain.end()
        else:
            token, position = _longest(text, position)
        token = token.lower()
        if token and token not in PUNCTUATION:
            yield token


def _longest(text: str, position: int) -> tuple[str, int]:
    """Returns the token at a position and its end; no token for a character without a rule, which the program skips."""
    best, end, spelt = None, position, None
    for rule, spelling in _RULES:
        match = rule.match(text, position)
        if match and match.end() > end:
            best, end, spelt = match, match.end(), spelling
    if best is None:
        return "", position + 1
    group = best.lastindex or 0
    token = best[group]
    if spelt is not None:
        token = spelt(token) if callable(spelt) else spelt
    return token.replace("\xad", ""), best.end(group)

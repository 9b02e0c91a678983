"""Products of an XML feed, RSS or Atom, as Google Merchant and others take them: an element per product, an element inside or an
attribute per column."""

import re
from collections.abc import Iterator
from xml.parsers import expat

from kaleidobert.errors import UserError

PRODUCTS = ("item", "entry", "product")  # elements of RSS, of Atom, and of the feeds of other services
DECLARATION = re.compile(r"[\ufeff\s]*<\?xml[^>]*\?>")
SECTION = "<![CDATA["  # inside of another one it says that this was never closed: it holds the next product, too
UNCLOSED = "a CDATA section is not closed, and runs into what follows"
PIECE = 1 << 16  # characters that are parsed at a time

Row = dict[str, str | list[str]]


def products(text: str, where: str) -> Iterator[tuple[int, Row | str]]:
    """Yields (line of its beginning, row) of every product; in place of one that is torn the reason.

    A row maps the names of elements, without their namespace, to what they hold; to a list where several of one name hold different texts.
    Entities of HTML stay as they are.

    Raises UserError where the XML is damaged or declares entities: a feed needs none, and a few of them fill any memory.
    """
    reader = _Reader(where)
    text = DECLARATION.sub(lambda match: "\n" * match[0].count("\n"), text.lstrip("\ufeff"), count=1)  # the text is decoded
    for start in range(0, len(text), PIECE):
        reader.parse(text[start : start + PIECE], False)
        yield from reader.taken()
    reader.parse("", True)
    yield from reader.taken()


class _Reader:
    def __init__(self, where: str):
        self.where = where
        self.parser = expat.ParserCreate(namespace_separator=" ")
        self.parser.StartElementHandler, self.parser.EndElementHandler = self._start, self._end
        self.parser.CharacterDataHandler, self.parser.EntityDeclHandler = self._characters, self._entity
        self.parser.SkippedEntityHandler = lambda name, is_parameter: self._characters(f"&{name};")
        self.parser.UseForeignDTD(True)  # so that entities of HTML, which feeds hold undeclared, are skipped and no fault
        self.depth = 0
        self.at = 0  # depth of the product that is open; 0 = none
        self.line, self.words = 0, [""]
        self.row: dict[str, dict[str, None]] = {}
        self.rows: list[tuple[int, Row | str]] = []

    def parse(self, text: str, is_end: bool) -> None:
        try:
            self.parser.Parse(text, is_end)
        except expat.ExpatError as error:
            raise UserError(f"the XML is damaged at line {error.lineno} ({expat.ErrorString(error.code)})", self.where,
                            "a feed of products", "export it again, or export the products as CSV") from None

    def taken(self) -> list[tuple[int, Row | str]]:
        """Returns the products that are complete, each once."""
        rows, self.rows = self.rows, []
        return rows

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        self.depth += 1
        if not self.at and name.rpartition(" ")[2].lower() in PRODUCTS:
            self.at, self.line = self.depth, self.parser.CurrentLineNumber
            self.row = {key.rpartition(" ")[2]: {text: None} for key, text in attributes.items()}
        elif self.depth == self.at + 1:
            self.words = []
        else:
            self.words.append(" ")  # an element of an element is a part of its text

    def _end(self, name: str) -> None:
        if self.at and self.depth == self.at + 1 and (text := "".join(self.words).strip()):
            self.row.setdefault(name.rpartition(" ")[2], {})[text] = None
        if self.depth == self.at:
            self.at = 0
            is_torn = any(SECTION in text for texts in self.row.values() for text in texts)
            row: Row = {key: texts[0] if len(texts := list(values)) == 1 else texts for key, values in self.row.items()}
            self.rows.append((self.line, UNCLOSED if is_torn else row))
        self.depth -= 1

    def _characters(self, text: str) -> None:
        if self.at:
            self.words.append(text)

    def _entity(self, name: str, *_: object) -> None:
        raise UserError(f"the XML declares an entity, {name!r}, at line {self.parser.CurrentLineNumber}", self.where,
                        "a feed of products, which needs none", "export the products again, without a DTD, or as CSV")

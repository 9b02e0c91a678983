"""The columns of the released text files: three schemas, the ``--input_schema`` string, and the columns that a task needs.

    schema = schema.parse("input_ids:int:64,input_mask:int:64,...", "flag --input_schema")
    schema = schema.for_task(schema, "pretrain", KALEIDO)

The published schemas declare 35 numbers for the positions of the camouflage level, whose 9 patches x 5 = 45 numbers are in the
data; the release does not check lengths of vectors. Here they are checked, and for_task corrects that one length.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from kaleidobert.errors import UserError
from kaleidobert.levels import KALEIDO, KaleidoLevel

TASKS = ("pretrain", "finetune", "retrieve")
TYPES = ("int", "float", "str", "base64")
ENCODINGS = ("utf-8", "latin-1")
MAX_LENGTH = 1 << 24  # numbers in one column
BOX = 5  # x1, x2, y1, y2, area
PUBLISHED_MISTAKE = ("img_loc_position_camouflage", 35)
SUFFIXES = {"grey": "grey_mask", "blank": "blank_mask"}  # level: its name in columns, where they differ
CLASS_COLUMNS = {"rotation": "img_rotate_gt"}  # level: column of its class, where it is not img_<level>_gt
UNUSED = ("image_mask", "img_subtasks_flag", "prod_desc")  # the release reads them and never uses them
EXAMPLE = "name:type:length, such as input_ids:int:64"


@dataclass(frozen=True)
class Column:
    """type: int (int64 vector, int32 scalar), float (float32), str, base64 (little-endian float32); length: numbers in it."""

    name: str
    type: str
    length: int

    def __str__(self) -> str:
        return f"{self.name}:{self.type}:{self.length}"


@dataclass(frozen=True)
class Schema:
    """The columns of a line in their order; ``origin`` names the file or flag that they come from; ``encoding`` is of str columns."""

    columns: tuple[Column, ...]
    origin: str = "schema"
    encoding: str = "utf-8"

    def __post_init__(self) -> None:
        if self.encoding not in ENCODINGS:
            raise UserError(f"unknown encoding {self.encoding!r}", self.origin, f"one of {', '.join(ENCODINGS)}")

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(column.name for column in self.columns)

    def column(self, name: str) -> Column:
        """Returns the column of that name; KeyError where there is none."""
        return {column.name: column for column in self.columns}[name]

    def __str__(self) -> str:
        """Returns the schema in the form of --input_schema."""
        return ",".join(map(str, self.columns))


def parse(value: str | Mapping[str, Any] | Sequence[Any], origin: str, encoding: str = "utf-8") -> Schema:
    """Parses a schema: the released string, a mapping {name: "type:length"}, or a list of "name:type:length" or {name, type, length}.

    UserError names the mistake, the column, and ``origin``.
    """
    if isinstance(value, str):
        entries: list[Any] = [entry.strip() for entry in value.split(",")]
    elif isinstance(value, Mapping):
        entries = [f"{name}:{rest}" for name, rest in value.items()]
    elif isinstance(value, Sequence) and not isinstance(value, bytes):
        entries = list(value)
    else:
        raise UserError(f"the schema is a {type(value).__name__}", origin, f"text of the form {EXAMPLE}, a mapping or a list")
    columns = tuple(_column(entry, number, origin) for number, entry in enumerate(entries, 1))
    seen: dict[str, int] = {}
    for number, column in enumerate(columns, 1):
        first = seen.setdefault(column.name, number)
        if first != number:
            raise UserError(f"the column {column.name!r} is there twice, as number {first} and number {number}", origin,
                            "each name once")
    if not columns:
        raise UserError("the schema has no columns", origin, EXAMPLE)
    return Schema(columns, origin, encoding)


def released(task: str, levels: Sequence[KaleidoLevel] = KALEIDO, text_length: int = 64, num_masked: int = 10,
             feature_size: int = 2048) -> Schema:
    """Returns the published schema of pretrain, finetune or retrieve, for any level table, with the true lengths of the positions."""
    text = [Column(name, "int", text_length) for name in ("input_ids", "input_mask", "segment_ids")]
    features = [Column(feature_column(level), "float", level.num_patches * feature_size) for level in levels]
    features += [Column("image_mask", "int", sum(level.num_patches for level in levels))]
    features += [Column(box_column(level), "int", level.num_patches * BOX) for level in levels]

    def strings(*names: str) -> list[Column]:
        return [Column(name, "str", 1) for name in names]

    match = Column("nx_sent_labels", "int", 1)
    if _known(task) == "pretrain":
        masked = [Column("masked_lm_positions", "int", num_masked), Column("masked_lm_ids", "int", num_masked),
                  Column("masked_lm_weights", "float", num_masked)]
        columns = [*text, *masked, *features, Column("img_subtasks_flag", "int", 1), *answers(levels, feature_size), match]
    elif task == "finetune":
        labels = [Column(f"img_{name}{end}", type_, 1) for name in ("category", "subcategory")
                  for end, type_ in (("", "str"), ("_id", "int"))]
        columns = [*strings("text_prod_id"), *text, *strings("prod_desc", "image_prod_id", "prod_img_id"), *features, *labels]
    else:
        columns = [*strings("text_prod_id"), *text, *strings("prod_desc"), match, *strings("image_prod_id", "prod_img_id"), *features]
    return Schema(tuple(columns), f"the schema for {task}")


def answers(levels: Sequence[KaleidoLevel], feature_size: int) -> list[Column]:
    """Returns the columns of the levels' targets, in the published order: masked patches, classes, colour features of grey patches."""
    predicted = [level for level in levels if level.answer == "feature"]
    columns = [Column(f"img_{level.name}_lm_ids", "int", level.num_masked) for level in predicted]
    columns += [Column(class_column(level), "int", 1) for level in levels if level.answer == "class"]
    return columns + [Column(f"img_{level.name}_mask_gt", "float", level.num_masked * feature_size) for level in predicted
                      if level.pretext == "grey"]


def for_task(schema: Schema, task: str, levels: Sequence[KaleidoLevel] = KALEIDO, required: Sequence[str] = ()) -> Schema:
    """Returns the schema with the lengths that the levels determine. T, M and F are taken from the schema itself.

    UserError where it lacks a column that pretrain, finetune or retrieve needs (or one of ``required``), or declares another type
    or length.
    """
    sizes = {column.name: column.length for column in schema.columns}
    patches = levels[0].num_patches
    feature_size = sizes.get(feature_column(levels[0]), 0) // patches or 1
    full = released(task, levels, sizes.get("input_ids", 0), sizes.get("masked_lm_ids", 0), feature_size)
    optional = set(UNUSED) | {name for name in full.names if name.startswith(("img_category", "img_subcategory"))}
    optional |= {"text_prod_id", "image_prod_id", "prod_img_id"} if task == "finetune" else set()
    needed = [name for name in dict.fromkeys((*full.names, *required)) if name not in optional or name in required]
    missing = [name for name in needed if name not in sizes]
    if missing:
        known = [str(full.column(name)) if name in full.names else name for name in missing]
        raise UserError(f"lacks {'the column' if len(missing) == 1 else 'the columns'} {', '.join(missing)}", schema.origin,
                        f"for {task}: {', '.join(known)}", "name every column of the files, in their order")
    right = {column.name: column for column in full.columns if column.name not in UNUSED}
    return replace(schema, columns=tuple(_corrected(column, right, schema.origin) for column in schema.columns))


def feature_column(level: KaleidoLevel) -> str:
    """Returns the column of a level's features, patch-major."""
    return f"img_feature_convert_{SUFFIXES.get(level.name, level.name)}"


def box_column(level: KaleidoLevel) -> str:
    """Returns the column of a level's positions, patch-major."""
    return f"img_loc_position_{SUFFIXES.get(level.name, level.name)}"


def class_column(level: KaleidoLevel) -> str:
    """Returns the column of a level's class."""
    return CLASS_COLUMNS.get(level.name, f"img_{level.name}_gt")


def _known(task: str) -> str:
    if task not in TASKS:
        raise UserError(f"unknown task {task!r}", "released files", "pretrain, finetune or retrieve")
    return task


def _column(entry: Any, number: int, origin: str) -> Column:
    """Parses one entry of a schema, the number-th."""
    where = f"{origin}, column {number}"
    if isinstance(entry, Column):
        entry = str(entry)
    if isinstance(entry, Mapping):
        if set(entry) != {"name", "type", "length"}:
            raise UserError(f"has the keys {sorted(map(str, entry))}", where, "name, type and length")
        entry = f"{entry['name']}:{entry['type']}:{entry['length']}"
    fields = [field.strip() for field in entry.split(":")] if isinstance(entry, str) else []
    if len(fields) != 3:
        raise UserError(f"{entry!r} is no column" if entry else "is empty", where, EXAMPLE)
    name, type_, length = fields
    if not name or any(mark in name for mark in " \t,/\0"):  # a folder of rows names files after columns
        raise UserError(f"the name {name!r} cannot be used", where, "a name without blanks, commas and strokes")
    where = f"{where} ({name})"
    if type_ not in TYPES:
        raise UserError(f"unknown type {type_!r}", where, f"one of {', '.join(TYPES)}")
    if not (length.isascii() and length.isdigit()) or len(length) > 9 or not 1 <= int(length) <= MAX_LENGTH:
        raise UserError(f"the length is {length!r}", where, f"a whole number from 1 to {MAX_LENGTH:,}")
    if type_ == "str" and int(length) != 1:
        raise UserError(f"the length of a text is {length}", where, f"{name}:str:1")
    return Column(name, type_, int(length))


def _corrected(column: Column, expected: Mapping[str, Column], origin: str) -> Column:
    """Returns the column with its true length; UserError for any other type or length than the expected and the published one."""
    want = expected.get(column.name)
    if want is None or column == want:
        return column
    if column.type != want.type and (column.type, want.type) != ("base64", "float"):
        raise UserError(f"the column {column.name} is declared as {column.type}", origin, str(want))
    if column.length != want.length and (column.name, column.length) != PUBLISHED_MISTAKE:
        raise UserError(f"the column {column.name} is declared with {column.length:,} numbers", origin,
                        f"{want.length:,}, as the levels and the lengths of the other columns say", f"declare {want.name}:"
                        f"{column.type}:{want.length}")
    return replace(column, length=want.length)

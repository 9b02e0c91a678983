"""The classes of every label: their ids, and those that occur in one split only, which no model can learn or no test shows."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

SHOWN = 12  # names of a list that are printed
ID = "_id"


def tabulate(rows: Iterable[tuple[str, Mapping[str, str]]], names: Sequence[str]) -> dict[str, dict[str, Any]]:
    """{label: {"ids": {class: id}, "one_split": {split: [classes that occur nowhere else]}}} of rows (split, labels).

    The ids are those of a label NAME_id beside the label NAME, as the raw release of Fashion-Gen has them, where that gives every
    class a whole number of its own; otherwise they count the classes in alphabetical order. Empty labels are no class.

    >>> tabulate([("train", {"kind": "tie"}), ("val", {"kind": "hat"}), ("val", {"kind": "tie"})], ["kind"])
    {'kind': {'ids': {'hat': 0, 'tie': 1}, 'one_split': {'val': ['hat']}}}
    """
    plain = [name for name in names if not (name.endswith(ID) and name.removesuffix(ID) in names)]
    splits: dict[str, dict[str, set[str]]] = {name: {} for name in plain}
    given: dict[str, set[tuple[str, str]]] = {name: set() for name in plain}
    seen = set()
    for split, labels in rows:
        seen.add(split)
        for name in plain:
            if value := labels[name]:
                splits[name].setdefault(value, set()).add(split)
                given[name].add((labels.get(name + ID, ""), value))
    result = {}
    for name in plain:
        alone = {split: sorted(value for value, where in splits[name].items() if where == {split}) for split in sorted(seen)}
        result[name] = {"ids": _given(given[name]) or {value: place for place, value in enumerate(sorted(splits[name]))},
                        "one_split": {split: values for split, values in alone.items() if values and len(seen) > 1}}
    return result


def report(tables: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Lines for people.

    >>> report({"kind": {"ids": {"hat": 0, "tie": 1}, "one_split": {"val": ["hat"]}}})
    ['label kind: 2 classes, 1 only in val (hat)']
    """
    lines = []
    for name, table in tables.items():
        parts = [f"{len(values):,} only in {split} ({', '.join(values[:SHOWN])}{', ...' if len(values) > SHOWN else ''})"
                 for split, values in table["one_split"].items()]
        lines.append(", ".join([f"label {name}: {len(table['ids']):,} classes", *parts]))
    return lines


def _given(pairs: set[tuple[str, str]]) -> dict[str, int]:
    """{class: id} of pairs (id, class); empty where they are not one to one, or no numbers."""
    if not all(number.isdecimal() for number, _ in pairs):
        return {}
    ids = {value: int(number) for number, value in sorted(pairs, key=lambda pair: int(pair[0]))}
    return ids if len(pairs) == len(ids) == len(set(ids.values())) else {}

"""The fuzzing program of tables: clean on the reader as it is, and it finds faults that are planted there; what it once found."""

import pytest

from benchmarks import fuzz_tables
from kaleidobert import table_text
from kaleidobert.configs import Columns
from kaleidobert.datasets.sources import reading
from kaleidobert.datasets.sources.table import TableSource
from kaleidobert.errors import UserError


def test_tables_of_every_format_and_damage_are_read_or_refused():
    found, counts = fuzz_tables.run(seed=7, seconds=0, cases=300)
    assert found == 0
    for format_ in set(fuzz_tables.FORMATS):
        assert counts[f"{format_}, none: read"] and any(name.startswith(f"{format_}, ") and "refused" in name for name in counts)


def test_a_planted_fault_is_found(monkeypatch, capsys):
    monkeypatch.setattr(table_text._Separated, "_is_blank", lambda *_: False)
    assert fuzz_tables.main(["--seed", "7", "--cases", "400"]) == 1 and "FOUND by --seed 7 --first" in capsys.readouterr().out


FOUND = {  # what the program found in this reader: a table, and the ids that are read of it
    "sep= before lines that end with a carriage return": ("sep=|\rid|image|text\ra|a.jpg|red\rb|b.jpg|blue\r", ["a", "b"]),
    "a line break in quotes, above an open quote": (
        'text,id,image,note\n"""\n"" red",a,a.jpg,"x "" y"\nblue,b,b.jpg,\n"""\n"" soft, warm",c,c.jpg,"0 ""\n"" z"\n', ["a", "b", "c"]),
    "cells that begin and end with a lone quote": (
        'text,id,image,note\n"so ""fine""\n\n red, blue,\n",a,a.jpg,"x\n\n red, blue,\n"\nblue,b,b.jpg,\n', ["a", "b"]),
}


@pytest.mark.parametrize("case", FOUND)
def test_what_it_found_once(tmp_path, case):
    text, ids = FOUND[case]
    (tmp_path / "t.csv").write_bytes(text.encode())
    result = reading.survey(TableSource(tmp_path / "t.csv", Columns("id", "image", ("text",))))
    assert [product.product_id for product in result.products] == ids and not result.skipped


@pytest.mark.parametrize("encoding", ["punycode", "idna", "hex", "rot13"])
def test_codecs_that_read_no_text_are_refused(tmp_path, encoding):
    (tmp_path / "t.csv").write_bytes(b"\xef\xbb\xbfid,image,text\na,a.jpg,red\n")
    with pytest.raises(UserError, match=f"source.encoding is '{encoding}'"):
        reading.survey(TableSource(tmp_path / "t.csv", Columns("id", "image", ("text",)), encoding=encoding))

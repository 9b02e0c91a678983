"""Reading, writing and indexing the released text files: golden cases, round trips, and every mistake with its place."""

import base64
import json
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks import data_files
from kaleidobert.errors import UserError
from kaleidobert.released import files, numbers
from kaleidobert.released import schema as released_schema
from kaleidobert.released.files import Line, LineIndex, Position
from tests.support import released_writer
from tests.support.golden_data import GOLDEN, needs_golden

TOY = released_schema.parse("a:int:3,b:float:2,c:str:1,d:int:1,e:float:1", "toy")
GOOD = b"1,2,3\t0.5,1\th\t7\t2.5\n"
STRICTER = {"empty vector", "vector too short", "vector too long"}  # let through by the released reader, useless to the model
G4 = GOLDEN / "G4"


def read(path, schema=TOY, threads=1):
    return [row for _, row in files.rows([path], schema, threads=threads)]


@needs_golden
@pytest.mark.parametrize("kind", ["pretrain", "finetune", "retrieve"])
def test_golden_files(kind):
    text = json.loads((G4 / "schemas.json").read_text())[kind]
    schema = released_schema.for_task(released_schema.parse(text, "schemas.json"), kind)
    name = {"pretrain": "quirky", "finetune": "finetune_list", "retrieve": "retrieve_i2t_list"}[kind]
    paths = files.read_list(G4 / f"data/{name}.list_csv")
    with np.load(G4 / "parsed.npz") as parsed:
        golden = {key.split(".")[1]: parsed[key] for key in parsed.files if key.startswith(f"{kind}.")}
    (after, batch), = files.batches(files.rows(paths, schema, threads=2), 100)
    assert set(batch) == set(golden) and after.file == len(paths) - 1
    for column, array in golden.items():
        if array.dtype.kind == "S":
            assert batch[column].tolist() == [[value.decode()] for value, in array]
        else:
            assert batch[column].dtype == array.dtype and batch[column].tobytes() == array.tobytes(), column


@needs_golden
def test_35_positions_are_refused():
    text = json.loads((G4 / "schemas.json").read_text())["pretrain_published35"]
    schema = released_schema.for_task(released_schema.parse(text, "schemas.json"), "pretrain")
    with pytest.raises(UserError, match="line 1, column 'img_loc_position_camouflage': holds 35 numbers; expected: 45"):
        read(G4 / "data/pretrain_published35", schema)


@needs_golden
def test_quirks(tmp_path):
    cases = json.loads((G4 / "quirks.json").read_text())["cases"]
    assert len(cases) == 33
    for name, text, outcome, expected in cases:
        path = tmp_path / "rows"
        path.write_bytes(text.encode())
        if outcome == "error" or name in STRICTER:
            with pytest.raises(UserError, match="line [12]"):
                read(path)
            continue
        with np.errstate(over="ignore"):
            columns = {key: np.array(value) if key == "c" else np.array(value, float) for key, value in expected[0].items()}
        row, = read(path)
        for key, value in columns.items():
            same = row[key] == value[0, 0] if key == "c" else np.array_equal(row[key].astype(float), value[0], equal_nan=True)
            assert same or name == "int64 max", (name, key)
        if name == "int64 max":
            assert row["a"].tolist() == [2**63 - 1, 2, 3]


# --- round trips ------------------------------------------------------------------------------------------------------

FLOATS = st.floats(width=32, allow_nan=False)
TEXTS = st.text(st.characters(exclude_characters="\t\r\n", exclude_categories=["Cs"]), max_size=8)


@settings(max_examples=40, deadline=None)
@given(rows=st.lists(st.tuples(st.lists(st.integers(-(2**63), 2**63 - 1), min_size=3, max_size=3), st.lists(FLOATS, min_size=2, max_size=2),
                               TEXTS, st.integers(-(2**31), 2**31 - 1), FLOATS), min_size=1, max_size=5), cut=st.booleans())
def test_round_trip(tmp_path_factory, rows, cut):
    path = tmp_path_factory.mktemp("rows") / "rows"
    a, b, c, d, e = zip(*rows)
    columns = {"a": np.array(a), "b": np.array(b, np.float32), "c": np.array(c, object), "d": np.array(d), "e": np.array(e, np.float32)}
    assert released_writer.write(path, TOY, [columns]) == len(rows)
    if cut:
        path.write_bytes(path.read_bytes()[:-1])
    got = files.stack(read(path))
    assert got["c"].ravel().tolist() == list(c)
    for name in "abde":
        assert got[name].tobytes() == np.reshape(columns[name], got[name].shape).astype(got[name].dtype).tobytes(), name


@pytest.mark.parametrize("task", ["pretrain", "finetune", "retrieve"])
def test_whole_schema_with_base64(tmp_path, task):
    schema = released_schema.released(task, feature_size=4, text_length=8)
    text = str(schema).replace("img_feature_convert_jigsaw:float", "img_feature_convert_jigsaw:base64")
    schema = released_schema.for_task(released_schema.parse(text, "x"), task)
    columns = data_files.columns(schema, 3, 0.3)
    parts = [{name: columns[name][part] for name in columns} for part in (slice(2), slice(2, None))]
    released_writer.write(tmp_path / "rows", schema, parts)
    got = files.stack(read(tmp_path / "rows", schema, threads=2))
    for column in schema.columns:
        assert got[column.name].tolist() == columns[column.name].tolist()


@pytest.mark.parametrize("encode", [base64.b64encode, base64.urlsafe_b64encode, lambda raw: base64.b64encode(raw).rstrip(b"=")])
def test_base64_alphabets(tmp_path, encode):
    schema, values = released_schema.parse("x:base64:5", "x"), np.array([-1e-30, 3.5, np.inf, -0.0, 1e38], "<f4")
    (tmp_path / "rows").write_bytes(encode(values.tobytes()))
    assert read(tmp_path / "rows", schema)[0]["x"].tobytes() == values.tobytes()


@pytest.mark.parametrize(("columns", "message"), [
    ({"a": np.zeros((2, 2), int)}, "array is int64"), ({"a": np.zeros((2, 3))}, "array is float64"),
    ({"d": np.array([2**31, 0])}, "numbers from"), ({"b": np.full((2, 2), 1e39)}, "column 'b': holds numbers beyond float32"),
    ({"c": np.array(["x\ty", ""])}, "holds a TAB"), ({"e": np.zeros(3, np.float32)}, "different numbers of rows")])
def test_writer_refuses(tmp_path, columns, message):
    good = {"a": np.zeros((2, 3), int), "b": np.zeros((2, 2), np.float32), "c": np.array(["", ""]), "d": np.zeros(2, int), "e": np.zeros(2)}
    with pytest.raises(UserError, match=message):
        released_writer.write(tmp_path / "rows", TOY, [good | columns])
    with pytest.raises(UserError, match="no such array"):
        released_writer.write(tmp_path / "rows", TOY, [{"a": good["a"]}])
    with pytest.raises(UserError, match="no row"):
        released_writer.write(tmp_path / "rows", TOY, [])
    assert not list(tmp_path.iterdir())


# --- places, threads, the index ---------------------------------------------------------------------------------------


@pytest.fixture
def many(tmp_path):
    """Three files of 7, 1 and 12 rows, the second without a newline at its end; column d counts the rows."""
    paths, number = [], 0
    for name, rows in (("x", 7), ("y", 1), ("z", 12)):
        paths.append(tmp_path / name)
        text = b"".join(b"1,2,3\t0.5,1\th\t%d\t2.5\n" % (number + i) for i in range(rows))
        paths[-1].write_bytes(text[:-1] if name == "y" else text)
        number += rows
    return paths


@pytest.mark.parametrize("threads", [1, 3])
def test_order_and_going_on(many, threads):
    read = list(files.rows(many, TOY, threads=threads))
    assert [int(row["d"][0]) for _, row in read] == list(range(20))
    for place, (after, _) in enumerate(read, 1):
        rest = [int(row["d"][0]) for _, row in files.rows(many, TOY, after, threads)]
        assert rest == list(range(place, 20))
    batches = [batch["d"].ravel().tolist() for _, batch in files.batches(iter(read), 8)]
    assert batches == [list(range(8)), list(range(8, 16)), list(range(16, 20))]


@pytest.mark.parametrize("threads", [1, 3])
def test_a_mistake_comes_after_the_rows_before_it(many, threads):
    many[2].write_bytes(GOOD * 2 + b"x" + GOOD)
    seen = []
    with pytest.raises(UserError, match=r"z, line 3, column 'a': number 1 is 'x1'; expected: a whole number"):
        for _, row in files.rows(many, TOY, threads=threads):
            seen.append(row)
    assert len(seen) == 10
    many[1].unlink()
    seen = []
    with pytest.raises(UserError, match="y: cannot be read"):
        for _, row in files.rows(many, TOY, threads=threads):
            seen.append(row)
    assert len(seen) == 7


def test_place_in_another_file_is_refused(many):
    for place in (Position(0, 5, 1), Position(0, 10**6, 1)):
        with pytest.raises(UserError, match="no line begins at byte"):
            list(files.rows(many, TOY, place))
    with pytest.raises(UserError, match="in file 4"):
        list(files.rows(many, TOY, Position(4)))


def test_index(many, tmp_path):
    with pytest.raises(UserError, match="cannot be read"):
        LineIndex.scan([tmp_path / ("x" * 300)])
    index = LineIndex.scan(many)
    for each in (index, *(LineIndex.open(many, tmp_path / "cache") for _ in range(2))):
        assert len(each) == 20
        assert [int(files.parse(each.line(i), TOY)["d"][0]) for i in range(20)] == list(range(20))
        assert [each.line(i) for i in range(20)] == list(files.lines(many))
    with pytest.raises(IndexError):
        index.line(20)
    many[2].write_bytes(GOOD)
    with pytest.raises(UserError, match="z: has 20 bytes"):
        LineIndex(many, index.starts)


@pytest.mark.parametrize("content", [b"", b"PK", b"text", "npy", "no places"])
def test_a_damaged_cache_of_the_index_is_made_anew(many, tmp_path, content):
    cache = tmp_path / "cache"
    if content == "npy":
        np.save(tmp_path / "x.npy", np.zeros(3, np.int64))
        content = (tmp_path / "x.npy").read_bytes()
    elif content == "no places":
        np.savez(tmp_path / "x.npz", *[np.zeros(0, np.int64)] * 3, stamp=np.array(files._stamp(many)))
        content = (tmp_path / "x.npz").read_bytes()
    cache.write_bytes(content)
    assert len(LineIndex.open(many, cache)) == 20 and cache.read_bytes() != content


def test_threads_that_build_the_index_at_once_do_not_meet(many, tmp_path):
    with ThreadPoolExecutor(8) as pool:
        for number in range(10):
            indices = pool.map(lambda _, number=number: LineIndex.open(many, tmp_path / f"cache{number}"), range(8))
            assert [len(index) for index in indices] == [20] * 8
    assert not list(tmp_path.glob(".*"))


# --- bad input --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("content", "message"), [
    (GOOD + b"1,2,3\t0.5", "line 2: the line has 2 columns; expected: 5, .*cut off"),
    (GOOD + b"1,2\t0.5,1\th\t7\t2.5\n", "column 'a': holds 2 numbers; expected: 3"),
    (GOOD.replace(b"0.5,1", b"0.5,1,2,3"), "column 'b': holds 4 numbers; expected: 2"),
    (GOOD.replace(b"0.5", b"half"), "column 'b': number 1 is 'half'"),
    (GOOD.replace(b"7", b"7.0"), "column 'd': number 1 is '7.0'"),
    (GOOD.replace(b"2.5", b"2,5"), "column 'e': number 1 is '2,5'"),
    (GOOD.replace(b"h", b"\xe9t\xe9"), r"column 'c': is not utf-8 \(byte 1 is 0xe9\)"),
    (GOOD.replace(b"1,2,3", b"1,2,\x00"), "column 'a': number 3"),
    (b"", "the file is empty"), (b"\x1f\x8b\x08", "is compressed"),
    (b"\n" + GOOD, "line 1: the line is blank"),
    (GOOD + b"\r\n", "line 2: the line is blank"),
    (GOOD[:-1] + b"\t\n", "line 1: the line has 6 columns")])
def test_bad_files(tmp_path, content, message):
    (tmp_path / "rows").write_bytes(content)
    with pytest.raises(UserError, match=message):
        read(tmp_path / "rows")
    if not content or content[:2] == files.GZIP:
        with pytest.raises(UserError, match=message):
            LineIndex.scan([tmp_path / "rows"])


@pytest.mark.parametrize(("field", "message"), [
    (b"!!!!", "is not base64"), (b"AAAA", r"is not base64 \(3 bytes are no float32"), (b"AAAAAA==", "holds 1 numbers; expected: 2"),
    (b"A", "is not base64"), (b"+A-A", r"is not base64 \(two alphabets"),
    (b"", "holds 0 numbers"), (b"AAAAAAAAAAA==", r"is not base64 \(the padding"), (b"AAAAAAAAAAA=====", r"is not base64 \(the padding")])
def test_bad_base64(field, message):
    schema = released_schema.parse("i:int:1,x:base64:2", "x")
    with pytest.raises(UserError, match=f"here, column 'x': {message}"):
        files.parse(Line(b"1\t" + field, "here", Position()), schema)


def test_latin_1_line_ends_and_long_lines(tmp_path, monkeypatch):
    (tmp_path / "rows").write_bytes(GOOD.replace(b"h", b"\xe9t\xe9").replace(b"\n", b"\r\n") * 2)
    schema = released_schema.parse(str(TOY), "toy", "latin-1")
    assert [row["c"] for row in read(tmp_path / "rows", schema)] == ["été", "été"]
    monkeypatch.setattr(files, "MAX_LINE", 20)
    for reader in (read, lambda path: LineIndex.scan([path])):
        with pytest.raises(UserError, match="line 1: no line end within 20 bytes"):
            reader(tmp_path / "rows")


def test_zero_bytes_of_a_text_are_kept(tmp_path):
    (tmp_path / "rows").write_bytes(GOOD.replace(b"h", b"a\0b\0") * 2)
    assert files.stack(read(tmp_path / "rows"))["c"].tolist() == [["a\0b\0"]] * 2


@settings(max_examples=150, deadline=None)
@given(st.lists(st.one_of(st.sampled_from([b"1,2,3", b"0.5,1", b"h", b"7", b"2.5", b"", b",", b"\t", b"-", b"e"]),
                          st.binary(max_size=6)), max_size=9))
def test_any_bytes_are_read_or_refused(parts):
    line = Line(b"\t".join(parts).replace(b"\n", b""), "here", Position())
    try:
        row = files.parse(line, TOY)
    except UserError as error:
        assert error.where.startswith("here")
    else:
        assert [len(row[name]) for name in "abde"] == [3, 2, 1, 1]


# --- lists ------------------------------------------------------------------------------------------------------------


def test_lists(tmp_path):
    (tmp_path / "data").mkdir()
    for name in ("a", "b 1"):
        (tmp_path / "data" / name).write_bytes(GOOD)
    listed = tmp_path / "data" / "x.list_csv"
    listed.write_bytes(f"\ufeff12345\r\n\n   \n  data/a  \n678\nb 1\n{tmp_path}/data/a".encode())
    assert files.read_list(listed) == [tmp_path / "data/a", tmp_path / "data/b 1", tmp_path / "data/a"]
    with pytest.raises(UserError, match="line 4: there is no file 'data/a'"):
        files.read_list(listed, root=tmp_path / "data")
    released_writer.write_list(listed, ["a", "b 1"])
    assert len(files.read_list(listed)) == 2
    with pytest.raises(UserError, match="cannot stand in a list"):
        released_writer.write_list(listed, ["123"])


@pytest.mark.parametrize(("content", "message"), [
    (b"", "is empty"), (b"12\n\n", "names no data file"), (b"a\nnowhere\n", "line 1: there is no file 'a'"), (GOOD, "line 1: holds a TAB"),
    (b"\xff\n", "line 1: is not UTF-8"),
    (b"\n" + b"x" * 300, "line 2: there is no file"), (b"x" * 20000, "no line end")])
def test_bad_lists(tmp_path, content, message):
    (tmp_path / "list").write_bytes(content)
    with pytest.raises(UserError, match=message):
        files.read_list(tmp_path / "list")


def test_benchmark(tmp_path):
    pytest.importorskip("tensorflow")
    options = SimpleNamespace(rows=2, feature_size=8, digits=6, zeros=0.3, threads=1, repeats=1, json=tmp_path / "r.json")
    result = data_files.run(options)
    assert result["rows"] == 2 and list(result["ratios"]) == ["decode_csv and to_number", "lines alone"]
    assert ("numba" in result["title"]) == numbers.compiled()

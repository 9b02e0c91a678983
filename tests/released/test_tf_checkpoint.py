"""TensorFlow checkpoints: files are the bytes of the released ones, and both readers and a Saver read them back."""

import json
import struct
import sys
import weakref
from pathlib import Path

import numpy as np
import pytest

from kaleidobert.errors import UserError
from kaleidobert.model_zoo.checkpoints import LazyArray
from kaleidobert.released import tf_checkpoint
from tests.released.test_checkpoints import CHECKPOINTS
from tests.support import golden_data as data
from tests.support.golden_data import needs_golden

MANY = {f"scope_{number % 7}/é{number}/kernel": np.full((2, number % 3), number, np.float32) for number in range(90)}


@needs_golden
@pytest.mark.parametrize("name", CHECKPOINTS)
def test_the_same_arrays_give_the_same_files(name, tmp_path):
    theirs, ours = data.GOLDEN / name, tmp_path / Path(name).name
    tf_checkpoint.write(ours, tf_checkpoint.open_arrays(theirs))
    for first, second in zip(tf_checkpoint.files_of(ours), tf_checkpoint.files_of(theirs)):
        assert first.read_bytes() == second.read_bytes(), first.name
    assert ours.with_name("checkpoint").read_bytes() == theirs.with_name("checkpoint").read_bytes()


@needs_golden
def test_a_saver_restores_every_variable_of_the_training_graph(tmp_path):
    tf = pytest.importorskip("tensorflow")
    stored = tf_checkpoint.open_arrays(data.GOLDEN / "G1/ckpt_step3/model.ckpt-3")
    tf_checkpoint.write(tmp_path / "model.ckpt-3", stored)
    listed = json.loads((data.GOLDEN / "G1/variables.json").read_text())["train_graph_globals"]
    names = {row[0] if isinstance(row, list) else row for row in listed}
    assert names == set(stored)
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        variables = {name: tf.compat.v1.get_variable(name, array.shape, tf.as_dtype(array.dtype), use_resource=False)
                     for name, array in stored.items()}
        tf.compat.v1.train.Saver(list(variables.values())).restore(session, tf.train.latest_checkpoint(str(tmp_path)))
        for name, value in session.run(variables).items():
            np.testing.assert_array_equal(value, np.asarray(stored[name]), name)


@pytest.mark.parametrize("length", (0, 40, 8000))  # of names: an index is cut into blocks of 256 KiB
def test_tensorflow_reads_an_index_of_one_block_and_of_many(tmp_path, length):
    tf = pytest.importorskip("tensorflow")
    prefix, arrays = tmp_path / "model.ckpt-7", {f"{number % 89:02d}{'x' * length}{name}": MANY[name] for number, name in enumerate(MANY)}
    tf_checkpoint.write(prefix, arrays)
    assert (length == 8000) == (tf_checkpoint.files_of(prefix)[0].stat().st_size > 2 * 256 << 10)
    theirs, ours = tf.train.load_checkpoint(str(prefix)), tf_checkpoint.read(prefix)
    assert ours.keys() == arrays.keys() == theirs.get_variable_to_shape_map().keys()
    for name, value in arrays.items():
        for read in (ours[name], theirs.get_tensor(name)):
            np.testing.assert_array_equal(read, value, name)


def test_every_type_and_shape(tmp_path):
    tf = pytest.importorskip("tensorflow")
    values = {f"v/{dtype}": np.arange(6).reshape(2, 3).astype(dtype) for dtype in
              ("float64", "float16", "int32", "int64", "uint8", "int8", "int16", "uint16", "uint32", "uint64", "bool", ">f4")}
    values |= {"scalar": np.float32(3), "empty": np.zeros((0, 4), np.float32), "turned": np.arange(6.0).reshape(2, 3).T,
               "long": np.arange(300_000, dtype=np.float32)}
    tf_checkpoint.write(tmp_path / "many", values)
    theirs, ours = tf.train.load_checkpoint(str(tmp_path / "many")), tf_checkpoint.read(tmp_path / "many")
    for name, value in values.items():
        for read in (ours[name], theirs.get_tensor(name)):
            assert np.shape(read) == value.shape and np.asarray(read).dtype == value.dtype.newbyteorder("<")
            np.testing.assert_array_equal(read, value, name)
    with pytest.raises(UserError, match="text is of type"):
        tf_checkpoint.write(tmp_path / "text", {"text": np.array(["a"])})
    assert not list(tmp_path.glob("text*")) and not list(tmp_path.glob(".*"))


HEADER = bytes([1 << 3, 1, 3 << 3 | 2, 2, 1 << 3, 1])  # one data file; made by version 1 of the format


def change_index(path: Path, old: bytes, new: bytes) -> None:
    """Replaces bytes in the first block of an index and corrects the checksum of that block."""
    data = path.read_bytes()
    size = next(size for size in range(len(data)) if data[size + 1 : size + 5] == checksum(data[: size + 1]))  # with its compression
    assert len(old) == len(new) and data[:size].count(old) == 1
    block = data[: size + 1].replace(old, new)
    path.write_bytes(block + checksum(block) + data[size + 5 :])


def checksum(data: bytes) -> bytes:
    return struct.pack("<I", tf_checkpoint.mask(tf_checkpoint.crc32c(np.frombuffer(data, np.uint8))))


@pytest.mark.parametrize("old, new, words", [
    (HEADER, bytes([1 << 3, 1, 2 << 3, 1, 2 << 3, 1]), "its numbers are big-endian"),
    (HEADER, bytes([1 << 3 | 2, 4, 65, 65, 65, 65]), "no complete index"),
    (bytes([2 << 3 | 2, 4, 2 << 3 | 2, 2, 1 << 3, 3]), bytes([2 << 3, 7] * 3), "no complete index")])  # a shape that is a number
def test_an_index_that_says_something_else_is_refused(tmp_path, old, new, words):
    tf_checkpoint.write(tmp_path / "model.ckpt-1", {"a": np.zeros(3, np.float32)})
    change_index(tmp_path / "model.ckpt-1.index", old, new)
    with pytest.raises(UserError, match=words):
        tf_checkpoint.read(tmp_path / "model.ckpt-1")


def test_a_folder_knows_its_latest_checkpoint(tmp_path):
    tf = pytest.importorskip("tensorflow")
    for name in ("model.ckpt-0", 'my "é model'):
        tf_checkpoint.write(tmp_path / name, {"a": np.float32(1)})
        assert tf.train.latest_checkpoint(str(tmp_path)) == str(tmp_path / name)


def test_one_array_at_a_time(tmp_path):
    """Of the arrays of the caller: TensorFlow holds a copy of each until the file is written."""
    alive, most = set(), []

    def load():
        array = np.zeros(1000, np.float32)
        alive.add(id(array))
        weakref.finalize(array, alive.discard, id(array))
        most.append(len(alive))
        return array

    tf_checkpoint.write(tmp_path / "a", {f"v{number}": LazyArray((1000,), np.dtype(np.float32), load) for number in range(20)})
    assert len(most) == 20 and max(most) <= 2


def test_a_full_disk_keeps_the_earlier_checkpoint(tmp_path, monkeypatch, full_disk):
    prefix = tmp_path / "a"
    tf_checkpoint.write(prefix, {"v": np.float32(1)})
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    full_disk(".data-")
    with pytest.raises(UserError, match="no space left.*free some space"):
        tf_checkpoint.write(prefix, {"v": np.float32(2)})
    monkeypatch.undo()
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_without_tensorflow_reading_goes_on_and_writing_is_one_message(tmp_path, monkeypatch):
    tf_checkpoint.write(tmp_path / "a", {"v": np.float32(1)})
    monkeypatch.setitem(sys.modules, "tensorflow", None)
    assert tf_checkpoint.read(tmp_path / "a") == {"v": 1}
    with pytest.raises(UserError, match="b: a TensorFlow 1 checkpoint is written by TensorFlow, which is not installed.*pip install"):
        tf_checkpoint.write(tmp_path / "b", {"v": np.float32(1)})
    assert not list(tmp_path.glob("b*"))

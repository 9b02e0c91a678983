"""PyTorch files read without PyTorch: exact in both formats, and nothing of what a file says is executed or read outside of it."""

import os
import pickle
import struct
import zipfile

import numpy as np
import pytest

from kaleidobert.errors import UserError
from kaleidobert.preprocessors import torch_state_dict
from tests.support.torch_files import (
    ORDERED_DICT,
    PROTOCOL,
    STOP,
    legacy_file,
    number,
    numbers,
    pickled,
    several,
    state_dict,
    storage,
    tensor,
    text,
    zip_file,
)

WRITERS = pytest.mark.parametrize("write", [zip_file, legacy_file])
SIX = {"0": np.arange(6, dtype=np.float32)}


@WRITERS
def test_arrays_of_every_type_come_back_exactly(write, tmp_path):
    rng = np.random.default_rng(0)
    arrays = {"a.weight": rng.normal(size=(4, 3, 2, 2)).astype("f4"), "a.bias": rng.normal(size=4), "half": np.float16([1, -2.5]),
              "steps": np.int64(7), "ids": np.arange(5, dtype="i4"), "mask": np.array([[True], [False]]), "bytes": np.arange(3, dtype="u1")}
    arrays = {name: np.asarray(array) for name, array in arrays.items()}
    result = torch_state_dict.read(write(tmp_path / "x.pth", *state_dict(arrays)))
    assert list(result) == list(arrays)
    for name, array in arrays.items():
        assert result[name].dtype == array.dtype and not result[name].flags.writeable
        np.testing.assert_array_equal(result[name], array, strict=True)


@WRITERS
def test_tensors_are_views_of_a_storage_that_they_share(write, tmp_path):
    entries = {"whole": tensor("0", 6, (2, 3)), "turned": tensor("0", 6, (3, 2), (1, 3)), "column": tensor("0", 6, (2,), (3,), offset=1),
               "last": tensor("0", 6, (), offset=5), "none": tensor("0", 6, (0, 4), offset=6)}
    result = torch_state_dict.read(write(tmp_path / "x.pth", pickled(entries), SIX))
    whole = np.arange(6, dtype=np.float32).reshape(2, 3)
    for name, expected in {"whole": whole, "turned": whole.T, "column": whole[:, 1], "last": whole[1, 2], "none": np.empty((0, 4))}.items():
        np.testing.assert_array_equal(result[name], expected, strict=name != "none")


def refused(path, message: str) -> None:
    with pytest.raises(UserError, match=message) as error:
        torch_state_dict.read(path, "do something else")
    assert error.value.where == str(path) and error.value.fix == "do something else"


class Shell:
    """An object whose pickle runs a program."""

    def __init__(self, command: str):
        self.command = command

    def __reduce__(self):
        return os.system, (self.command,)


def chains(command: str) -> dict[str, tuple[bytes, str]]:
    """Pickles that lead to os.system, each by another way, and how they are refused."""
    call = text(command) + b"\x85R"  # a tuple of one, REDUCE
    system = b"cposix\nsystem\n"
    get = b"cbuiltins\ngetattr\n" + several(b"c__builtin__\n__import__\n" + several(text("os")) + b"R", text("system")) + b"R"
    return {
        "protocol 2": (pickle.dumps(Shell(command), 2), "names posix.system"),
        "protocol 0": (pickle.dumps(Shell(command), 0), "names posix.system"),
        "protocol 4": (pickle.dumps(Shell(command), 4), "operation FRAME"),
        "getattr": (PROTOCOL + get + call + STOP, "names builtins.getattr"),
        "INST": (PROTOCOL + b"(" + text(command) + b"iposix\nsystem\n" + STOP, "operation INST"),
        "OBJ": (PROTOCOL + b"(" + system + text(command) + b"o" + STOP, "names posix.system"),
        "STACK_GLOBAL": (PROTOCOL + text("posix") + text("system") + b"\x93" + call + STOP, "operation STACK_GLOBAL"),
        "EXT1": (PROTOCOL + b"\x82\x01" + call + STOP, "operation EXT1"),
        "NEWOBJ": (PROTOCOL + ORDERED_DICT[:-2] + b")\x81" + STOP, "operation NEWOBJ"),
        "a name with points": (PROTOCOL + b"ctorch.serialization\nos.system\n" + call + STOP, "names torch.serialization.os.system"),
        "a method": (PROTOCOL + b"ccollections\nOrderedDict.__init__\n" + call + STOP, "names collections.OrderedDict.__init__"),
        # an attribute of an ordered dict that unpickling calls
        "setstate": (PROTOCOL + ORDERED_DICT + b"}" + text("__setstate__") + b"ctorch._utils\n_rebuild_tensor_v2\nsb}b" + STOP, "no dict"),
        "a text in place of a name": (PROTOCOL + text("posix system") + call + STOP, "it calls something"),
    }


@WRITERS
@pytest.mark.parametrize("way", chains(""))
def test_nothing_is_executed(write, way, tmp_path):
    proof = tmp_path / "executed"
    state, message = chains(f"touch {proof}")[way]
    if way.startswith("protocol"):
        pickle.loads(state)  # the attack works where a file is unpickled
        assert proof.exists()
        proof.unlink()
    refused(write(tmp_path / "x.pth", state, SIX), message.replace(".", "[.]"))
    refused(write(tmp_path / "x.pth", pickled({"a": state.removeprefix(PROTOCOL)[:-1]}), SIX), "is not read|is damaged")
    assert not proof.exists()


def test_a_value_inside_of_a_legacy_head_is_not_executed(tmp_path):
    proof = tmp_path / "executed"
    path = tmp_path / "x.pth"
    path.write_bytes(pickle.dumps(Shell(f"touch {proof}"), 2) * 5)
    refused(path, "names posix.system, which is no part of a state dict")
    assert not proof.exists()


@WRITERS
@pytest.mark.parametrize("entry, message", [
    (tensor("0", 6, (7,)), "'a' does not fit into its storage"),
    (tensor("0", 6, (2, 3), offset=1), "does not fit"),
    (tensor("0", 6, (2, 3), (4, 1)), "does not fit"),
    (tensor("0", 6, (2, 2), (1 << 61, 1 << 61)), "does not fit"),
    (tensor("0", 6, (1 << 40, 2), (0, 0)), "does not fit"),  # a copy of it would fill the memory
    (tensor("0", 6, (6,), offset=-1), "a tensor of it is not described"),
    (tensor("0", 6, (6,), (-1,), offset=5), "a tensor of it is not described"),
    (tensor("0", 6, (-6,)), "a tensor of it is not described"),
    (tensor("0", 6, (6,), (1, 1)), "a tensor of it is not described"),
    (tensor("0", 6, (6,), (1 << 70,)), "a tensor of it is not described"),
    (tensor("0", 6, (6,), of=text("0")), "a tensor of it is not described"),
    (tensor("0", -6, (6,)), "a storage of it is not described"),
    (tensor("0", 6, (6,), of=storage("0", 6, extra=several(text("view"), number(0), number(3)))), "a storage of it is not described"),
    (tensor("0", 6, (6,), of=several(text("storage"), text("FloatStorage"), text("0"), text("cpu"), number(6)) + b"Q"), "a storage of it"),
    (tensor("0", 6, (6,), kind="Untyped"), "names torch.UntypedStorage"),
    (tensor("0", 1 << 40, (6,)), "its storages have 4,398,046,511,104 bytes, and the file has"),
    (tensor("0", 5, (5,)), "elements|damaged"), (tensor("0", 7, (6,)), "elements|damaged"),
    (tensor("0", 6, (6,), kind="Half"), "elements|goes on behind"),
    (tensor("other", 6, (6,)), "storages are not those|no item named 'archive/data/other'"),
    (number(3), "1 of its 1 entries are no tensors, such as 'a'"), (ORDERED_DICT, "are no tensors"),
    (b"ctorch._utils\n_rebuild_tensor_v2\n)R", "a tensor of it is not described"),
    (b"ccollections\nOrderedDict\n" + several(numbers([1])) + b"R", "an ordered dict of it is made of something"),
    (number(1) + b"a", "fills something that is neither"),
])
def test_what_does_not_fit_is_refused(write, entry, message, tmp_path):
    refused(write(tmp_path / "x.pth", pickled({"a": entry}), SIX), message)


@WRITERS
def test_two_descriptions_of_a_storage_must_agree(write, tmp_path):
    path = write(tmp_path / "x.pth", pickled({"a": tensor("0", 6, (6,)), "b": tensor("0", 3, (3,), kind="Double")}), SIX)
    refused(path, "its storage '0' has two types or sizes")


@WRITERS
@pytest.mark.parametrize("state, message", [
    (PROTOCOL + number(3) + STOP, "holds no dict"), (PROTOCOL + ORDERED_DICT + STOP, "holds no dict"),
    (PROTOCOL + b"}(" + number(1) + tensor("0", 6, (6,)) + b"u.", "a key of it is no text"),
    (PROTOCOL + b"}" + b")" + b"\x85" * 200_000 + tensor("0", 6, (6,)) + b"s.", "a key of it is no text"),  # its hash would recurse
    (PROTOCOL + b"}(" + text("a") + b"u.", "damaged or cut off"), (PROTOCOL + b"u.", "damaged"), (PROTOCOL + b"h\x07.", "damaged"),
    (PROTOCOL + b"R.", "damaged"), (PROTOCOL + b"}", "damaged or cut off|holds no dict"), (b"\xff", "damaged"),
    (PROTOCOL + b"X\xff\xff\xff\x7fabc", "damaged"), (PROTOCOL + b"\x8e" + b"\xff" * 7 + b"\x3f" + b"abc", "damaged"),
])
def test_other_pickles_are_refused(write, state, message, tmp_path):
    refused(write(tmp_path / "x.pth", state, SIX), message)


@WRITERS
def test_a_memo_of_any_number_costs_no_memory(write, tmp_path):
    """Python's own unpickler makes a list as long as the number: 64 GB."""
    one = tensor("0", 6, (6,))
    state = pickled({"a": one + b"r" + struct.pack("<I", 0xFFFFFFFF), "b": b"j" + struct.pack("<I", 0xFFFFFFFF)})
    result = torch_state_dict.read(write(tmp_path / "x.pth", state, SIX))
    np.testing.assert_array_equal(result["a"], result["b"])


def test_zip_entries_hold_what_they_say(tmp_path):
    state = pickled({"a": tensor("0", 6, (6,))})
    bomb = zip_file(tmp_path / "bomb.pth", state, {"0": np.zeros(10_000_000, np.float32)}, zipfile.ZIP_DEFLATED)
    refused(bomb, "its entry 'byteorder' is compressed")
    refused(zip_file(tmp_path / "two.pth", state, SIX, others={"more/data.pkl": b""}), "2 entries named data.pkl")
    refused(zip_file(tmp_path / "big.pth", state, SIX, others={"byteorder": b"big"}), "not little-endian")
    refused(legacy_file(tmp_path / "big-legacy.pth", state, SIX, little_endian=False), "not little-endian")
    np.savez(tmp_path / "arrays.npz", a=np.arange(3))
    refused(tmp_path / "arrays.npz", "0 entries named data.pkl")
    damaged = zip_file(tmp_path / "crc.pth", state, SIX).read_bytes().replace(np.float32([4, 5]).tobytes(), np.float32([4, 6]).tobytes())
    (tmp_path / "crc.pth").write_bytes(damaged)
    refused(tmp_path / "crc.pth", "damaged or cut off .Bad CRC-32")


def test_a_storage_that_many_tensors_share_is_read_once(tmp_path):
    entries = {f"t{i}": tensor("0", 100_000, (100_000,)) for i in range(2000)}  # copies would have 800 MB
    result = torch_state_dict.read(zip_file(tmp_path / "x.pth", pickled(entries), {"0": np.zeros(100_000, np.float32)}))
    assert len({array.__array_interface__["data"][0] for array in result.values()}) == 1


@pytest.mark.parametrize("content, message", [
    (b"", "damaged"), (b"not a network\n", "damaged|not read"), (b"PK\3\4", "damaged"),
    (b"\x1f\x8b" * 50, "damaged|not read"), (pickle.dumps([1, 2], 2) * 9, "does not begin as files"),
])
def test_foreign_files_are_refused(content, message, tmp_path):
    (tmp_path / "x.pth").write_bytes(content)
    refused(tmp_path / "x.pth", message)


def test_missing_and_large_files_are_refused(tmp_path, monkeypatch):
    refused(tmp_path / "none.pth", "cannot be read .No such file")
    refused(tmp_path, "cannot be read .Is a directory")
    path = zip_file(tmp_path / "x.pth", pickled({"a": tensor("0", 6, (6,))}), SIX)
    monkeypatch.setattr(torch_state_dict, "MAX_BYTES", 100)
    refused(path, "it has more than 100 bytes")


@WRITERS
def test_a_damaged_file_is_refused_or_read_inside_of_its_bytes(write, tmp_path):
    path = write(tmp_path / "x.pth", pickled({"a": tensor("0", 6, (2, 3)), "b": tensor("0", 6, (3,), offset=2)}), SIX)
    content, rng = path.read_bytes(), np.random.default_rng(0)
    for stop in range(len(content)):
        path.write_bytes(content[:stop])
        with pytest.raises(UserError):
            torch_state_dict.read(path)
    for _ in range(2000):
        spoiled = bytearray(content)
        for position in rng.integers(len(content), size=rng.integers(1, 4)):
            spoiled[position] = rng.integers(256)
        path.write_bytes(spoiled)
        try:
            for array in torch_state_dict.read(path).values():
                assert array.sum() is not None and array.nbytes <= len(content)
        except UserError:
            pass

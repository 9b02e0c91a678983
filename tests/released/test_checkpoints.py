"""The released checkpoint: every name and shape, what is refused, and the reader behind it."""

import json
import math
import shutil
import struct

import keras
import numpy as np
import pytest

from kaleidobert.errors import UserError
from kaleidobert.model_zoo.checkpoints import LazyArray
from kaleidobert.model_zoo.kaleidobert import Classifier, Matcher, Pretrainer, pretrainer
from kaleidobert.released import checkpoints, tf_checkpoint
from tests.support import golden_data as data
from tests.support.golden_data import needs_golden
from tests.support.network_data import SIZES, TABLES, backbone

CONFIG = {"vocab_size": 50, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 4,
          "max_position_embeddings": 10, "type_vocab_size": 2, "patch_feature_size": 12, "text_seq_len": 8}
CHECKPOINTS = ("G1/ckpt/model.ckpt-0", "G1/ckpt_step3/model.ckpt-3", "G3/ckpt_catepred/model.ckpt-0",
               "G3/ckpt_subcatepred/model.ckpt-0", "G4/ckpt/kaleidobert.ckpt-7")


def small(**changes):
    return Pretrainer(backbone("kaleido", **changes))


@pytest.fixture
def checkpoint(monkeypatch):
    """A checkpoint to play with, {name: array}, that the reader reads instead of a file."""
    arrays = dict(checkpoints.export_weights(small(seed=5)))

    def open_arrays(prefix, wants):
        return {name: LazyArray(array.shape, array.dtype, lambda array=array: array) for name, array in arrays.items() if wants(name)}

    monkeypatch.setattr(tf_checkpoint, "open_arrays", open_arrays)
    return arrays


@needs_golden
def test_every_variable_of_the_base_model_has_its_released_name_and_shape():
    listed = json.loads((data.GOLDEN / "variables_base_config.json").read_text())
    with keras.StatelessScope(initialize_variables=False):  # 121 million numbers that nobody needs
        model = pretrainer({})
    names, head = checkpoints.names_of(model), checkpoints.label_names("catepred").values()
    shapes = {}
    for weight in model.trainable_weights:
        shape = tuple(weight.shape)
        shapes[f"{checkpoints.SCOPE}/{names[weight.path].bare}"] = list(shape[::-1] if names[weight.path].transposed else shape)
    keras.utils.clear_session()  # or Keras would fill those variables at the next occasion
    assert len(shapes) == 235 and shapes == {name: shape for name, shape in listed["pretrain"]}
    assert sum(math.prod(shape) for shape in shapes.values()) == 121_290_081
    assert names.keys() == checkpoints.name_map(12).keys()
    assert {name for name, _ in listed["finetune_catepred"]} - set(shapes) == {name.bare for name in head}


@needs_golden
def test_a_training_checkpoint_is_read_without_its_slots():
    golden = data.load("G1")
    path = data.GOLDEN / "G1/ckpt_step3/model.ckpt-3"
    assert len(tf_checkpoint.index(path)[0]) == 276 and len(checkpoints.open_weights(path)) == 91
    exported = checkpoints.export_weights(checkpoints.import_checkpoint(path, data.GOLDEN / "G1/config.json"))
    for name, value in exported.items():
        np.testing.assert_array_equal(value, golden[f"w3.{name}"], name)


@needs_golden
def test_the_heads_of_pre_training_survive_in_a_fine_tuned_checkpoint():
    path, config = data.GOLDEN / "G3/ckpt_catepred/model.ckpt-0", data.GOLDEN / "G3/config.json"
    assert isinstance(checkpoints.import_checkpoint(path, config), Classifier)
    exported, golden = checkpoints.export_weights(checkpoints.import_checkpoint(path, config, "pretraining")), data.load("G1")
    for name, value in exported.items():
        np.testing.assert_array_equal(value, golden[f"w0.{name}"], name)


@needs_golden
@pytest.mark.parametrize("name", CHECKPOINTS)
def test_the_reader_gives_what_tensorflow_gives(name):
    tf = pytest.importorskip("tensorflow")
    theirs, ours = tf.train.load_checkpoint(str(data.GOLDEN / name)), tf_checkpoint.read(data.GOLDEN / name)
    assert ours.keys() == theirs.get_variable_to_shape_map().keys()
    for variable, array in ours.items():
        expected = theirs.get_tensor(variable)
        assert array.dtype == expected.dtype and array.shape == expected.shape, variable
        assert array.tobytes() == expected.tobytes(), variable


def test_the_reader_against_a_checkpoint_of_many_types(tmp_path):
    tf = pytest.importorskip("tensorflow")
    values = {f"v/{dtype}": np.arange(6).reshape(2, 3).astype(dtype) for dtype in
              ("float64", "float16", "int32", "int64", "uint8", "int8", "bool")}
    values |= {"scalar": np.float32(3), "empty": np.zeros((0, 4), np.float32), "long": np.arange(300_000, dtype=np.float32)}
    prefix = str(tmp_path / "many")
    tf.raw_ops.SaveV2(prefix=prefix, tensor_names=list(values), shape_and_slices=[""] * len(values),
                      tensors=list(values.values()))
    read = tf_checkpoint.read(prefix)
    assert read.keys() == values.keys()
    for name, value in values.items():
        assert read[name].dtype == value.dtype
        np.testing.assert_array_equal(read[name], value, name)
    tf.raw_ops.SaveV2(prefix=prefix, tensor_names=["text"], shape_and_slices=[""], tensors=[tf.constant(["a"])])
    with pytest.raises(UserError, match="plain numbers"):
        tf_checkpoint.read(prefix)


def test_crc32c():
    assert tf_checkpoint.crc32c(np.frombuffer(b"123456789", np.uint8)) == 0xE3069283  # the usual check value
    noise = np.random.Generator(np.random.Philox(0)).integers(0, 256, 400_003).astype(np.uint8)
    crc, table = 0xFFFFFFFF, tf_checkpoint._table(8).tolist()
    for byte in noise.tolist():
        crc = table[(crc ^ byte) & 0xFF] ^ (crc >> 8)
    assert tf_checkpoint.crc32c(noise) == crc ^ 0xFFFFFFFF


@needs_golden
@pytest.mark.parametrize("suffix", (".index", ".data-00000-of-00001"))
def test_a_damaged_checkpoint_is_refused(tmp_path, suffix):
    prefix = tmp_path / "model.ckpt-0"
    for part in (".index", ".data-00000-of-00001"):
        shutil.copyfile(data.GOLDEN / f"G1/ckpt/model.ckpt-0{part}", f"{prefix}{part}")
    path = tmp_path / f"model.ckpt-0{suffix}"
    whole = path.read_bytes()
    for position in (20, len(whole) // 2, len(whole) - 60):
        flipped = bytearray(whole)
        flipped[position] ^= 4
        path.write_bytes(bytes(flipped))
        with pytest.raises(UserError, match="checksum|index"):
            tf_checkpoint.read(prefix)
    for size in (0, 30, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:size])
        with pytest.raises(UserError, match="ends after|index|cannot be read"):
            tf_checkpoint.read(prefix)
    path.unlink()
    with pytest.raises(UserError, match="cannot be read"):
        tf_checkpoint.read(prefix)


@needs_golden
def test_a_compressed_index_is_refused(tmp_path):
    index = bytearray((data.GOLDEN / "G1/ckpt/model.ckpt-0.index").read_bytes())
    varints = tf_checkpoint._varints(bytes(index[-tf_checkpoint.FOOTER :]))
    _, _, offset, size = (next(varints) for _ in range(4))
    index[offset + size] = 1  # Snappy, with a checksum that says so
    crc = tf_checkpoint.crc32c(np.frombuffer(bytes(index[offset : offset + size + 1]), np.uint8))
    index[offset + size + 1 : offset + size + 5] = struct.pack("<I", tf_checkpoint.mask(crc))
    (tmp_path / "a.index").write_bytes(bytes(index))
    with pytest.raises(UserError, match="compressed"):
        tf_checkpoint.index(tmp_path / "a")


@pytest.mark.parametrize("first", ("", "fashion_pre_trained_model/", "pre_trained_model_2/"))
def test_other_first_components_and_both_directions(checkpoint, first):
    original = dict(checkpoint)
    checkpoint.clear()
    for name, array in original.items():
        checkpoint[first + name.removeprefix(f"{checkpoints.SCOPE}/")] = array
    checkpoint |= {f"{first}global_step": np.int64(3), "beta1_power": np.float32(1)}
    checkpoint |= {f"{name}/Adam_1": array for name, array in list(checkpoint.items())[:4]}
    exported = checkpoints.export_weights(checkpoints.import_checkpoint("x", CONFIG))
    assert exported.keys() == original.keys()
    assert all(np.array_equal(exported[name], original[name]) for name in original)


def test_everything_that_does_not_fit_is_listed(checkpoint):
    first = f"{checkpoints.SCOPE}/"
    lost = checkpoint.pop(f"{first}cls/img_jigsaw/jiasaw_output_weights")
    checkpoint[f"{first}cls/img_jigsaw/jigsaw_output_weights"] = lost
    checkpoint[f"{first}cls/seq_relationship/output_weights"] = np.zeros((16, 2), np.float32)
    with pytest.raises(UserError) as refusal:
        checkpoints.import_checkpoint("x", CONFIG)
    lines = [line.strip() for line in str(refusal.value).splitlines()[1:-1]]
    assert lines == ["- cls/img_jigsaw/jiasaw_output_weights float[24, 64]",
                     "+ cls/img_jigsaw/jigsaw_output_weights float[24, 64]",
                     "- cls/seq_relationship/output_weights float[2, 16]", "+ cls/seq_relationship/output_weights float[16, 2]"]


def test_a_fine_tuning_head_is_wanted_and_missing(checkpoint):
    with pytest.raises(UserError, match=r"- subcatepred_dense/kernel"):
        checkpoints.import_checkpoint("x", CONFIG, "subcatepred")
    with pytest.raises(UserError, match="catepred or subcatepred"):
        checkpoints.import_checkpoint("x", CONFIG, "brand")
    checkpoint["bert/position_dense"] = checkpoint[f"{checkpoints.SCOPE}/bert/position_dense"]
    with pytest.raises(UserError, match="names"):
        checkpoints.import_checkpoint("x", CONFIG)


def test_short_type_tables_are_taken_from_the_checkpoint(checkpoint):
    for name in [name for name in checkpoint if name.endswith("_type_embeddings") and "token" not in name]:
        checkpoint[name] = checkpoint[name][:2]
    model = checkpoints.import_checkpoint("x", CONFIG | {"patch_type_vocab_size": 6})
    assert model.backbone.patch_type_vocabulary_size == 2


def test_config(tmp_path):
    arguments = checkpoints.backbone_config(CONFIG | {"masked_blankmask_patch_num": 5, "hidden_dropout_prob": 0.2}, 4)
    assert {name: arguments[name] for name in SIZES if name in arguments} == {name: SIZES[name] for name in SIZES}
    assert [level.num_masked for level in arguments["levels"]] == [0, 0, 1, 2, 5]
    assert arguments["dropout"] == 0.2 and arguments["patch_type_vocabulary_size"] == 4
    for change, said in (({"hidden_sise": 4}, r"\+ hidden_sise"), ({"img_jigsaw_seq_len": 9}, "img_jigsaw_seq_len is 9"),
                         ({"hidden_act": "relu"}, "gelu")):
        with pytest.raises(UserError, match=said):
            checkpoints.backbone_config(CONFIG | change)
    with pytest.raises(UserError, match="- vocab_size"):
        checkpoints.backbone_config({name: value for name, value in CONFIG.items() if name != "vocab_size"})
    with pytest.raises(UserError, match="no such file"):
        checkpoints.backbone_config(tmp_path / "config.json")


@pytest.mark.parametrize("table", [table for table in TABLES if table != "kaleido"])
def test_other_levels_have_no_released_form(table):
    with pytest.raises(UserError, match="standard level table"):
        checkpoints.export_weights(Pretrainer(backbone(table)))


def test_heads_of_our_own_have_no_released_form():
    assert len(checkpoints.export_weights(Matcher(backbone("kaleido")))) == 62  # the backbone's 60 and the head's 2
    with pytest.raises(UserError, match="head_product"):
        checkpoints.export_weights(Matcher(backbone("kaleido"), "product"))

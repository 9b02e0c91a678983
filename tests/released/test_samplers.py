"""Batches out of released rows: the golden batch and its losses, the order, and every id that is out of range with its place."""

import numpy as np
import pytest

from kaleidobert import configs
from kaleidobert.errors import UserError
from kaleidobert.levels import KALEIDO, KaleidoLevel
from kaleidobert.losses import pretraining as losses
from kaleidobert.released import checkpoints, files
from kaleidobert.released import rows as released_rows
from kaleidobert.released import samplers as released_samplers
from kaleidobert.released import schema as released_schema
from kaleidobert.released.samplers import FileLabelSampler, FilePretrainSampler, Reader
from tests.support import golden_data, released_data, released_writer
from tests.support.golden_data import close, needs_golden
from tests.support.released_data import VOCABULARY

TWO = (KaleidoLevel("rotation", 1, "rotate"), KaleidoLevel("blank", 6, "blank", num_masked=4))


def rows_of(path, task, levels=KALEIDO):
    return released_rows.open_rows(path, released_data.schema(task, levels))


# --- golden -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def golden(tmp_path_factory):
    """The golden batch of G1 as a data file, {name: array}, and the file."""
    if not golden_data.GOLDEN.is_dir():
        pytest.skip(f"the golden data is not in {golden_data.GOLDEN} (KALEIDO_SHARED)")
    arrays, path = golden_data.load("G1"), tmp_path_factory.mktemp("g1") / "rows"
    schema = released_schema.released("pretrain", feature_size=32)
    released_writer.write(path, schema, [{name: arrays[f"in.{name}"] for name in schema.names}])
    changed = {name: arrays[f"in.{name}"] for name in schema.names} | {"img_blank_lm_ids": arrays["dup.in.img_blank_lm_ids"]}
    released_writer.write(path.with_name("dup"), schema, [changed])
    return arrays, path, schema


def batch_of(golden, name="rows"):
    arrays, path, schema = golden
    rows = released_rows.open_rows(path.with_name(name), schema)
    sampler = FilePretrainSampler(Reader(rows, KALEIDO, 200), "all", 5, 0)
    assert sampler.validation(1) is None
    return sampler.validation(0)


@needs_golden
def test_the_golden_batch(golden):
    expected = golden_data.pretraining(golden[0])
    for ours, name in zip(batch_of(golden), ("inputs", "targets", "weights")):
        assert ours.keys() == expected[name].keys()
        for key, value in ours.items():
            np.testing.assert_array_equal(value, expected[name][key], key)


@needs_golden
@pytest.mark.parametrize("name", ["rows", "dup"])
def test_golden_losses(golden, name):
    """Of the files, with the joint softmax of the grey target; "dup": a blank patch that is named twice is negated."""
    arrays, first = golden[0], {"rows": "eval.", "dup": "dup.eval."}[name]
    model = checkpoints.import_checkpoint(golden_data.GOLDEN / "G1/ckpt/model.ckpt-0", golden_data.GOLDEN / "G1/config.json")
    inputs, targets, weights = batch_of(golden, name)
    outputs = model(inputs)
    values = losses.total(losses.for_tasks(KALEIDO, "joint"), outputs, targets, weights)
    names = {"itm": "nsp", "grey": "greymask", "blank": "blankmask"}
    checked = 0
    for task, value in values.items():
        key = f"{first}loss.{names.get(task, task)}"
        if key in arrays:
            close(value, arrays[key], 2e-5, 1e-5, key)
            checked += 1
    assert checked == {"rows": 8, "dup": 1}[name]
    close(model.backbone(inputs)["sequence"], arrays[f"{first}sequence_output"], golden_data.LOGITS)


@needs_golden
def test_golden_files():
    """The features of G4's own text files, bit for bit."""
    folder = golden_data.GOLDEN / "G4"
    schema = released_schema.released("pretrain")
    sampler = FilePretrainSampler(Reader(released_rows.TextRows(
        [folder / "data/pretrain_train__a", folder / "data/pretrain_train__b"], schema, folder / "nowhere"), KALEIDO, 200), "all", 4, 0)
    rows = sampler._reader.rows
    rows.index = released_rows.LineIndex.scan(rows.paths)  # nothing is written there
    with np.load(folder / "parsed.npz") as file:
        arrays = {name.replace("pretrain.", "in."): file[name] for name in file.files if name.startswith("pretrain.")}
    expected = golden_data.pretraining(arrays)
    (inputs, targets, _), (more, _, _) = sampler.validation(0), sampler.validation(1)
    for name in inputs:
        np.testing.assert_array_equal(np.concatenate([inputs[name], more[name]]), expected["inputs"][name], name)
    np.testing.assert_array_equal(targets["grey"], expected["targets"]["grey"][:4])


# --- small files ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("levels", [KALEIDO, TWO], ids=["kaleido", "two"])
def test_a_batch_is_a_function_of_seed_and_step_whatever_holds_the_rows(tmp_path, levels):
    path = released_data.write(tmp_path, "pretrain", 11, levels=levels)
    text = rows_of(path, "pretrain", levels)
    folder = released_rows.convert(text.paths, text.schema, tmp_path / "made")
    sources, seen = (text, folder, rows_of(path, "pretrain", levels)), []
    samplers = [FilePretrainSampler(Reader(rows, levels, VOCABULARY), "all", 4, 7) for rows in sources]
    for step in (3, 0, 5):
        parts = [sampler.batch(step) for sampler in samplers]
        for other in parts[1:]:
            for one, two in zip(parts[0], other):
                for name in one:
                    np.testing.assert_array_equal(one[name], two[name])
    for step in range(11):
        seen += samplers[0].order.batch(step).tolist()
    assert sorted(seen) == sorted(list(range(11)) * 4) and seen[:11] != seen[11:22]


def test_pairs_that_do_not_match_count_as_asked(tmp_path):
    rows = rows_of(released_data.write(tmp_path, "pretrain", 6), "pretrain")
    match = np.array([1, 0, 0, 1, 0, 0], np.float32)
    for choice, counts in (("all", np.ones(6)), ("itm-only", match)):
        _, targets, weights = FilePretrainSampler(Reader(rows, KALEIDO, VOCABULARY), choice, 6, 0).validation(0)
        assert weights["rotation"].tolist() == counts.tolist() and weights["itm"].tolist() == [1] * 6
        assert (weights["mlm"].sum(1) > 0).tolist() == (counts > 0).tolist() and targets["itm"].tolist() == match.tolist()


@pytest.mark.parametrize(("column", "value", "message"), [
    ("input_ids", VOCABULARY, "holds 150; expected: ids of the vocabulary"), ("segment_ids", 2, "holds 2; expected: segments: 0 to 1"),
    ("input_mask", -1, "holds -1"), ("masked_lm_positions", released_data.TEXT, "holds 12; expected: positions in the text: 0 to 11"),
    ("masked_lm_ids", VOCABULARY, "ids of the vocabulary"), ("img_rotate_gt", 4, "classes: 0 to 3"), ("img_jigsaw_gt", 24, "0 to 23"),
    ("img_camouflage_gt", -1, "holds -1"), ("img_grey_lm_ids", 16, "patches of the level 'grey': 0 to 15"),
    ("img_blank_lm_ids", 25, "0 to 24"), ("nx_sent_labels", 2, "classes: 0 to 1"), ("img_feature_convert_jigsaw", np.nan, "NaN"),
    ("img_grey_mask_gt", np.inf, "NaN or infinite"), ("masked_lm_weights", np.nan, "NaN or infinite")])
def test_a_wrong_number_is_refused_with_its_place(tmp_path, column, value, message):
    changed = released_data.columns("pretrain", 6)[column].copy()
    changed[4, -1] = value
    text = rows_of(released_data.write(tmp_path, "pretrain", 6, **{column: changed}), "pretrain")
    folder = released_rows.convert(text.paths, text.schema, tmp_path / "made")
    for rows, place in ((text, "rows__1, line 2"), (folder, "made, row 5")):
        sampler = FilePretrainSampler(Reader(rows, KALEIDO, VOCABULARY), "all", 6, 0)
        with pytest.raises(UserError) as error:
            sampler.batch(0)
        assert f"{place}, column {column!r}: holds" in str(error.value) and message in str(error.value)


@pytest.mark.parametrize("modality", ["both", "image", "text"])
def test_labels(tmp_path, modality):
    rows = rows_of(released_data.write(tmp_path, "finetune", 7), "finetune")
    numbers, names = released_samplers.label_map(rows, "subcategory")
    assert numbers.tolist() == [0, 1, 2, 0, 1, 2, 0] and names == {0: "TOTE", 1: "VEST", 2: "HEM"}
    sampler = FileLabelSampler(Reader(rows, KALEIDO, VOCABULARY), "subcategory", modality, configs.Noise(0.5, 0.5), 3, 1)
    inputs, targets, weights = sampler.batch(2)
    assert targets["label"].tolist() == numbers[sampler.order.batch(2)].tolist() and weights["label"].tolist() == [1, 1, 1]
    again = sampler.batch(2)[0]
    assert all(np.array_equal(inputs[name], again[name]) for name in inputs)
    assert inputs["token_ids"].shape == (3, 2 if modality == "image" else released_data.TEXT)
    hidden = (inputs["patch_features"] == 0).all(-1).mean()
    assert hidden == 1 if modality == "text" else 0.2 < hidden < 0.8


def test_labels_that_files_do_not_have(tmp_path):
    with pytest.raises(UserError, match="no label 'colour'; expected: category or subcategory"):
        released_samplers.label_column("colour")
    path = released_data.write(tmp_path, "finetune", 5, img_category_id=np.array([0, 1, 48, 0, 0])[:, None])
    with pytest.raises(UserError, match=r"rows__0, line 3, column 'img_category_id': holds 48; expected: classes: 0 to 47"):
        released_samplers.label_map(rows_of(path, "finetune"), "category")


# --- where rows lie ---------------------------------------------------------------------------------------------------


def test_sources(tmp_path):
    path = released_data.write(tmp_path, "retrieve", 5)
    whole = rows_of(path, "retrieve").take(np.arange(5))
    for source in (tmp_path / "rows__*", path):
        assert rows_of(source, "retrieve").take(np.arange(5))["text_prod_id"].tolist() == whole["text_prod_id"].tolist()
    assert len(rows_of(tmp_path / "rows__1", "retrieve")) == 2
    assert (tmp_path / ".rows__1.lines.npz").is_file() and "2 file(s)" in rows_of(path, "retrieve").summary()
    for source, message in (("nothing__*", "no file has such a name"), ("nothing", "cannot be read"), (".", "no finished conversion")):
        with pytest.raises(UserError, match=message):
            rows_of(tmp_path / source, "retrieve")


def test_the_index_is_kept_and_made_anew_when_files_change(tmp_path, monkeypatch):
    path = released_data.write(tmp_path, "retrieve", 5)
    assert len(rows_of(path, "retrieve")) == 5
    with monkeypatch.context() as patch:
        patch.setattr(released_rows.LineIndex, "scan", lambda paths: pytest.fail("counted again"))
        assert len(rows_of(path, "retrieve")) == 5
    released_data.write(tmp_path, "retrieve", 7)
    assert len(rows_of(path, "retrieve")) == 7
    (tmp_path / ".rows.list_csv.lines.npz").write_bytes(b"PK")
    assert len(rows_of(path, "retrieve")) == 7


def test_files_in_a_folder_that_cannot_be_written_are_read_all_the_same(tmp_path, monkeypatch, capsys):
    def refuse(path):
        raise UserError("cannot write here", str(path))

    path = released_data.write(tmp_path, "retrieve", 5)
    monkeypatch.setattr(files.io, "atomic", refuse)
    assert len(rows_of(path, "retrieve")) == 5 and "every run counts them again" in capsys.readouterr().out

"""Google's BERT as the start of pre-training: what comes from it, what is drawn anew, what is refused."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from kaleidobert.levels import KALEIDO
from kaleidobert.model_zoo import checkpoints
from kaleidobert.model_zoo.kaleidobert import Pretrainer, rebuild
from kaleidobert.released import tf_checkpoint
from kaleidobert.released.checkpoints import is_bert, name_map, text_names
from tests.support.apps_data import SIZES, World, call, refused
from tests.support.checkpoint_data import npz
from tests.support.convert_data import convert, done
from tests.support.network_data import TABLES, backbone
from tests.support.tables import TWO
from tests.support.tiny import tiny_bank

pytestmark = [pytest.mark.slow, pytest.mark.eager]

CONFIG = {"attention_probs_dropout_prob": 0.1, "directionality": "bidi", "hidden_act": "gelu", "hidden_dropout_prob": 0.1,
          "hidden_size": 16, "initializer_range": 0.02, "intermediate_size": 24, "max_position_embeddings": 70,
          "num_attention_heads": 4, "num_hidden_layers": 2, "pooler_fc_size": 768, "pooler_num_attention_heads": 12,
          "pooler_num_fc_layers": 3, "pooler_size_per_head": 128, "pooler_type": "first_token_transform", "type_vocab_size": 2,
          "vocab_size": 50}


def names_and_shapes() -> dict[str, tuple[int, ...]]:
    """What Google's checkpoints hold, written down by hand."""
    h, inner, words = 16, 24, 50
    shapes = {"bert/embeddings/word_embeddings": (words, h), "bert/embeddings/position_embeddings": (70, h),
              "bert/embeddings/token_type_embeddings": (2, h), "bert/pooler/dense/kernel": (h, h), "bert/pooler/dense/bias": (h,),
              "cls/predictions/output_bias": (words,), "cls/predictions/transform/dense/kernel": (h, h),
              "cls/predictions/transform/dense/bias": (h,), "cls/seq_relationship/output_weights": (2, h),
              "cls/seq_relationship/output_bias": (2,)}
    norms = ["bert/embeddings/LayerNorm", "cls/predictions/transform/LayerNorm"]
    for layer in ("bert/encoder/layer_0", "bert/encoder/layer_1"):
        dense = [f"attention/self/{name}" for name in ("query", "key", "value")] + ["attention/output/dense"]
        for name, shape in (*[(name, (h, h)) for name in dense], ("intermediate/dense", (h, inner)), ("output/dense", (inner, h))):
            shapes |= {f"{layer}/{name}/kernel": shape, f"{layer}/{name}/bias": shape[1:]}
        norms += [f"{layer}/attention/output/LayerNorm", f"{layer}/output/LayerNorm"]
    return shapes | {f"{norm}/{part}": (h,) for norm in norms for part in ("gamma", "beta")}


@pytest.fixture
def bert(tmp_path) -> tuple[Path, dict[str, np.ndarray]]:
    rng = np.random.Generator(np.random.Philox(0))
    arrays = {name: rng.normal(size=shape).astype(np.float32) for name, shape in names_and_shapes().items()}
    return save(tmp_path / "uncased/bert_model.ckpt", arrays), arrays


def save(prefix: Path, arrays: dict[str, np.ndarray], **config) -> Path:
    tf_checkpoint.write(prefix, arrays)
    prefix.with_name("bert_config.json").write_text(json.dumps(CONFIG | config))
    return prefix


@pytest.mark.parametrize("table", TABLES)
def test_the_text_part_comes_from_bert_and_the_rest_from_the_seed(bert, tmp_path, table):
    prefix, arrays = bert
    (tmp_path / "config.yaml").write_text(
        json.dumps({"new_parameters": {"levels": [vars(level) for level in TABLES[table]], "feature_size": 12, "seed": 9}})
    )
    left = done(prefix, tmp_path / "start.npz", str(tmp_path / "config.yaml"))
    model = rebuild(checkpoints.load_meta(tmp_path / "start.npz"))
    checkpoints.restore(tmp_path / "start.npz", model)
    assert model.kind == "pretrainer" and model.backbone.levels == TABLES[table] and model.backbone.feature_size == 12
    plain = {weight.path: np.asarray(weight) for weight in Pretrainer(backbone(table, max_positions=70, text_length=64, seed=9)).weights}
    names = text_names(2)
    for weight in model.weights:
        expected = arrays[names[weight.path].bare] if weight.path in names else plain[weight.path]
        np.testing.assert_array_equal(np.asarray(weight), expected, weight.path)
        assert any(line.startswith(f"- {weight.path} ") for line in left) == (weight.path not in names)
    assert len(names) == len(arrays) - 2
    assert [line for line in left if line[0] == "+"] == ["+ cls/seq_relationship/output_bias [2]: skipped",
                                                         "+ cls/seq_relationship/output_weights [2, 16]: skipped"]
    assert "step" not in checkpoints.load_meta(tmp_path / "start.npz")


def test_other_berts(bert, tmp_path):
    prefix, arrays = bert
    other = {f"bert_pre_trained_model/{name}": array for name, array in arrays.items() if not name.startswith("cls/")}
    slots = {"global_step": np.array(1), "bert/pooler/dense/bias/adam_m": np.zeros(16, np.float32), "loss_scale": np.float32(2)}
    left = done(save(tmp_path / "b/model.ckpt", other | slots, model_type="bert"), tmp_path / "b.npz", "new_parameters.feature_size=12")
    assert [line.split()[1] for line in left if line[0] == "+"] == ["bert/pooler/dense/bias/adam_m", "loss_scale"]
    assert {line.split()[1] for line in left if "head_mlm" in line} == {
        f"head_mlm/{part}" for part in ("bias", "dense/kernel", "dense/bias", "layer_norm/beta", "layer_norm/gamma")}


def test_berts_that_do_not_fit(bert, tmp_path):
    prefix, arrays = bert
    lost, wide = "bert/encoder/layer_1/output/LayerNorm/beta", "bert/embeddings/word_embeddings"
    save(prefix, {name: array for name, array in arrays.items() if name not in (lost, "cls/predictions/output_bias")}
         | {wide: np.zeros((50, 20), np.float32)})
    refused(convert(prefix, tmp_path / "a.npz"), rf"- {lost} float\[16\]", r"- cls/predictions/output_bias float\[50\]",
            rf"- {wide} float\[50, 16\]", rf"\+ {wide} float\[50, 20\]", "check that the bert_config.json belongs")
    for change, words in (({"num_hidden_layers": 1}, r"\+ bert/encoder/layer_1/"), ({"num_hidden_layers": 3}, "- bert/encoder/layer_2/"),
                          ({"hidden_act": "relu"}, "hidden_act is 'relu'"), ({"type_vocab_size": 16}, r"token_type_embeddings float\[16")):
        save(prefix, arrays, **change)
        refused(convert(prefix, tmp_path / "a.npz", "new_parameters.feature_size=12"), words)
    save(prefix, arrays)
    refused(convert(prefix, tmp_path / "a.npz", "optimizer=true", "task=catepred"), "optimizer, task is set, .* no meaning for a BERT")
    prefix.with_name("bert_config.json").unlink()
    refused(convert(prefix, tmp_path / "a.npz"), "there is no bert_config.json or config.json beside it")
    assert not (tmp_path / "a.npz").exists()


def test_what_a_bert_is():
    assert is_bert(names_and_shapes()) and not is_bert([])
    names = {name.bare for name in name_map(2, KALEIDO).values()}
    pictures = names - set(names_and_shapes())
    assert not is_bert(names)
    for name in pictures:  # a Kaleido-BERT of which nearly everything is lost is still a broken Kaleido-BERT
        assert not is_bert([*names_and_shapes(), name])


def test_the_scale_of_features_is_measured_by_the_run_that_starts_from_it(tmp_path, untrained):
    """On a bank whose vocabulary and texts decide the sizes of this BERT."""
    world = World(tmp_path, TWO, tiny_bank(tmp_path, TWO))
    sizes = {"vocab_size": world.bank.vocabulary.size, "max_position_embeddings": 64, "num_attention_heads": 2, "num_hidden_layers": 1,
             "intermediate_size": 16}
    rng = np.random.Generator(np.random.Philox(0))
    shapes = {"bert/embeddings/word_embeddings": (sizes["vocab_size"], 16), "bert/embeddings/position_embeddings": (64, 16),
              "cls/predictions/output_bias": (sizes["vocab_size"],)}
    shapes = {name: tuple(16 if size == 24 else size for size in shapes.get(name, shape)) for name, shape in names_and_shapes().items()
              if "layer_1" not in name}
    prefix = save(tmp_path / "bert/model.ckpt", {name: rng.normal(0, 0.02, shape).astype(np.float32) for name, shape in shapes.items()},
                  **sizes)
    (tmp_path / "new_parameters.yaml").write_text(json.dumps({"new_parameters": {
        "levels": [vars(level) for level in TWO], "feature_size": world.bank.feature_size, "standardise_features": True}}))
    left = done(prefix, tmp_path / "start.npz", str(tmp_path / "new_parameters.yaml"))
    assert any(line.startswith("- feature_scale/mean") and "measured by the run that starts from it" in line for line in left)
    scaled = replace(SIZES, max_positions=64, standardise_features=True)
    for name, config in (("pretrain", world.pretrain(init=tmp_path / "start.npz", model=scaled)),
                         ("classify", world.classify(init=tmp_path / "start.npz", model=scaled))):
        outcome = call(name, config)
        assert outcome.status == 0, outcome.err
        kept = npz(config.run / "best.npz")
        assert np.ptp(kept["model/feature_scale/mean"]) > 0 and (kept["model/feature_scale/scale"] != 1).all()
    again = world.classify("again", init=world.best, model=scaled)
    assert call("classify", again).status == 0  # measured once: from there on the scale is part of the weights
    assert npz(again.run / "best.npz")["model/feature_scale/mean"].tobytes() == kept["model/feature_scale/mean"].tobytes()
    refused(call("pretrain", world.pretrain("no", init=tmp_path / "start.npz", model=replace(scaled, standardise_features=False))),
            "- standardise_features True . False")

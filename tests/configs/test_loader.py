"""Configurations: bases, words, paths, and refusals that name key, file and the nearest valid name."""

import ast
import dataclasses
import typing
from pathlib import Path

import pytest

from kaleidobert import configs
from kaleidobert.app_zoo import commands
from kaleidobert.cli import COLUMN, parser
from kaleidobert.configs.section import MEANING
from kaleidobert.datasets.sources import SOURCES
from kaleidobert.errors import UserError
from kaleidobert.levels import KaleidoLevel

ROOT = Path(__file__).resolve().parents[2]
PATTERNS = {"synthesize": "synthesize", "records": "records", "align": "align", "pretrain": "pretrain",
            "pretrain_released": "pretrain",
            "evaluate": "evaluate", "cat": "classify", "subcat": "classify", "i2t": "retrieve", "t2i": "retrieve", "inspect": "inspect",
            "caption": "caption",
            "train_foreground": "train-foreground", "ablate": "ablate", "fetch": "fetch", "convert": "convert", "index": "index",
            "fashion_gen": "records", "fashion_gen_extracted": "records", "tfds": "records"}


@pytest.fixture
def written(tmp_path):
    def write(text, name="run.yaml"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path
    return write


PRETRAIN = "run: runs/a\ndata: {bank: bank}\n"


def test_words_win_over_the_file_and_the_file_over_its_base(written):
    written(PRETRAIN + "train: {epochs: 3, batch_size: 4}\n", "base.yaml")
    path = written("base: base.yaml\ntrain: {batch_size: 8}\n")
    config = configs.load(configs.PretrainConfig, path, ["train.learning_rate=1e-3"])
    assert (config.train.epochs, config.train.batch_size, config.train.learning_rate) == (3, 8, 1e-3)


TABLE = "bank: b\nsource:\n  table: t.csv\n  columns: {id: sku, image: file, text: [title], labels: {category: kind, subcategory: type}}\n"


@pytest.mark.parametrize("update, words, labels", [
    ("source: {columns: {labels: {colour: hue}}}", [], {"colour": "hue"}),
    ("source: {columns: {labels: {}}}", [], {}),
    ("source: {columns: {labels: }}", [], {}),
    ("source: {columns: {group: family}}", [], {"category": "kind", "subcategory": "type"}),
    ("source: {columns: {labels: {colour: hue}}}", ["source.columns.labels.size=size"], {"colour": "hue", "size": "size"}),
    ("", ["source.columns.labels={brand: maker}"], {"brand": "maker"}),
    ("", ["source.columns.labels.category=department"], {"category": "department", "subcategory": "type"}),
])
def test_a_mapping_of_labels_replaces_that_of_the_base(written, update, words, labels):
    written(TABLE, "base.yaml")
    path = written(f"base: base.yaml\n{update}\n")
    config = configs.load(configs.RecordsConfig, path, words, commands.TABLES)
    assert config.source.columns.labels == labels and config.source.columns.image == "file"


def test_a_preset_replaces_the_columns_of_the_base(written):
    written(TABLE, "base.yaml")
    path = written("base: base.yaml\nsource: {preset: shopify, columns: {labels: {fabric: Tags}}}\n")
    columns = configs.load(configs.RecordsConfig, path, [], commands.TABLES).source.columns
    assert (columns.id, columns.image, columns.labels) == ("", "", {"fabric": "Tags"})
    assert configs.load(configs.RecordsConfig, path, ["source.preset=none"], commands.TABLES).source.columns == columns
    path = written("base: base.yaml\nsource: {preset: none}\n")
    assert configs.load(configs.RecordsConfig, path, [], commands.TABLES).source.columns.id == "sku"


def test_sections_keep_the_defaults_of_their_command(written):
    path = written("run: a\ndata: {bank: b}\nlabel: c\ntrain: {batch_size: 8}\n")
    assert configs.load(configs.ClassifyConfig, path).train.learning_rate == 2e-5


@pytest.mark.parametrize("command, words, message", [
    ("retrieve", ["protocol="], "protocol is ''.*one of kaleido, "),
    ("retrieve", ["protocol=[full]"], r"protocol is \['full'\].*one of kaleido, "),
    ("pretrain", ["sampling.masking="], "command line, 'sampling.masking=': sampling.masking is ''.*one of random, alignment_guided"),
    ("pretrain", ["sampling.masking=alignment"], "did you mean 'alignment_guided'"),
    ("records", ["source.kind=[table]"], r"source.kind is \['table'\].*one of table, "),
    ("records", ["source.kind="], "source.kind is ''.*one of table, "),
    ("records", ["encoder.name=[pixels]"], r"encoder.name is \['pixels'\].*one of pixels, "),
    ("pretrain", ["train.trim_text=true"], "did you mean 'train.dynamic_padding'"),
    ("align", ["regions.most=2"], "did you mean 'regions.top_k'"),
    ("retrieve", ["matching.head=contrast"], "did you mean 'dual_encoder'"),
])
def test_a_name_that_is_no_row_of_its_table_and_one_of_before(command, words, message):
    with pytest.raises(UserError, match=message):
        commands.load(command, {"retrieve": "i2t"}.get(command, command), words)


def test_an_empty_name_is_none_where_that_is_the_default():
    assert commands.load("evaluate", "evaluate", ["protocol="]).protocol == ""


def test_relative_paths_start_at_the_holder_of_configs_or_at_the_current_folder(written, tmp_path, monkeypatch):
    path = written(PRETRAIN, "project/configs/deep/run.yaml")
    monkeypatch.chdir(tmp_path)
    config = configs.load(configs.PretrainConfig, path, ["data.bank=here/bank"])
    assert config.run == tmp_path / "project/runs/a"
    assert config.data.bank == tmp_path / "here/bank"


@pytest.mark.parametrize("text, words, message", [
    (PRETRAIN + "trian: {}\n", [], "unknown key 'trian'.*did you mean 'train'"),
    (PRETRAIN, ["train.batchsize=3"], "unknown key 'train.batchsize'.*did you mean 'train.batch_size'"),
    (PRETRAIN, ["train.batch_size=many"], "train.batch_size is 'many'.*a whole number"),
    (PRETRAIN, ["train.batch_size=1.5"], "a whole number"),
    (PRETRAIN, ["train.precision=float"], "one of float32, mixed_bfloat16"),
    (PRETRAIN, ["train=3"], "keys of Train"),
    (PRETRAIN, ["batch"], "is not an override"),
    (PRETRAIN, ["levels=[{name: a, grid: 1, pretext: rotate, masked: 1}]"], r"unknown key 'levels\[0\].masked'"),
    ("run: a\n", [], "'data' is not set"),
    ("run: a\ndata: {}\n", [], "'data.bank' is not set"),
    ("run: [\n", [], "not valid YAML"),
    ("- 1\n", [], "expected: keys and values"),
    ("base: run.yaml\n", [], "circle"),
])
def test_refusals(written, text, words, message):
    with pytest.raises(UserError, match=message):
        configs.load(configs.PretrainConfig, written(text), words)


def test_missing_file(tmp_path):
    with pytest.raises(UserError, match="no such configuration file"):
        configs.load(configs.PretrainConfig, tmp_path / "no.yaml")


def test_values_that_were_kept_become_the_configuration_again():
    config = commands.load("records", "quickstart/records", ["storage=uint8", "source.val_fraction=0.2"])
    values = configs.to_dict(config)
    assert configs.from_dict(type(config), values, "index.json", commands.TABLES) == config
    with pytest.raises(UserError, match=r"index\.json: unknown key 'encoder.sise'"):
        configs.from_dict(type(config), {**values, "encoder": {"sise": 8}}, "index.json", commands.TABLES)


def test_dump_and_load_agree(written):
    config = configs.load(configs.PretrainConfig, written(PRETRAIN), ["train.epochs=2"])
    assert configs.load(configs.PretrainConfig, written(configs.dump(config), "again.yaml")) == config
    other = dataclasses.replace(config, train=dataclasses.replace(config.train, epochs=5.0))
    assert configs.differences(configs.to_dict(config), configs.to_dict(other)) == ["train.epochs: 2.0 -> 5.0"]


@pytest.mark.parametrize("path", sorted((ROOT / "configs").rglob("*.yaml")), ids=lambda p: str(p.relative_to(ROOT / "configs")))
def test_every_named_config_loads_and_opens_with_its_command(path):
    command = "pretrain" if path.parent.name == "table4" else PATTERNS[path.stem]
    assert path.read_text().startswith(f"# kaleidobert {command} configs/{path.relative_to(ROOT / 'configs')}")
    commands.load(command, path)


def test_every_field_is_read_somewhere():
    read = set()
    for path in (ROOT / "kaleidobert").rglob("*.py"):
        tree = ast.parse(path.read_text())
        read |= {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    # fields that reach a constructor as keywords, by way of to_dict
    spread = {field.name for field in dataclasses.fields(configs.Model)}
    unread = [f"{kind.__name__}.{field.name}" for kind in _sections() for field in dataclasses.fields(kind)
              if field.name not in read | spread]
    assert not unread


def test_every_key_has_a_line_that_says_what_it_means():
    texts = {f"{kind.__name__}.{field.name}": field.metadata.get(MEANING, "") for kind in _sections() if kind is not KaleidoLevel
             for field in dataclasses.fields(kind)}
    assert len(texts) > 200
    bad = [name for name, text in texts.items()
           if not 8 <= len(text) <= 140 or text != text.strip() or text.endswith(".") or "\n" in text]
    assert not bad


@pytest.mark.parametrize("command", commands.every())
def test_help_says_what_every_key_means(command):
    """Every line of a key ends in its meaning, or the next line holds it."""
    actions = parser()._subparsers._group_actions[0]
    text = actions.choices[command].format_help().partition("meanings")[2].partition("\n\n")[0]
    lines = text.splitlines()[1:]
    keys = [number for number, line in enumerate(lines) if line[:COLUMN].strip() and line[2] != " "]
    kind = commands.config_class(command)
    assert [lines[number].split(":")[0].strip() for number in keys] == [field.name for field in dataclasses.fields(kind)]
    for number, line in enumerate(lines):
        if line[:COLUMN].strip():
            assert line[COLUMN:] if len(line) > COLUMN and line[COLUMN - 1] == " " else lines[number + 1].startswith(" " * COLUMN), line


def _sections():
    found, waiting = [], [*map(commands.config_class, commands.every()), *SOURCES.values()]
    while waiting:
        kind = waiting.pop()
        if dataclasses.is_dataclass(kind) and kind not in found:
            found.append(kind)
            hints = typing.get_type_hints(kind).values()
            waiting += [part for hint in hints for part in (hint, *typing.get_args(hint)) if isinstance(part, type)]
    return found


@pytest.mark.parametrize("word, message", [
    ("train.batch_size=0", "command line, 'train.batch_size=0': train: batch_size is 0; expected: at least 1"),
    ("train.learning_rate=.nan", "learning_rate is nan"),
    ("model.dropout=1.5", "model: dropout is 1.5; expected: 0 to 0.99"),
    ("sampling.mask_rate=-1", "mask_rate is -1.0; expected: 0 to 1"),
    ("levels=[{name: a, grid: 0, pretext: rotate}]", r"levels\[0\]: grid is 0"),
    ("levels=[{name: a, grid: 1, pretext: rotate, weight: -1}]", r"levels\[0\]: weight is -1.0; expected: a finite number, at least 0"),
    ("levels=[{name: a, grid: 2, pretext: blank, num_masked: 4}]", "all 4 patches are blank"),
    ("losses.mlm_weight=.inf", "losses: mlm_weight is inf; expected: at least 0, finite"),
    ("losses.mlm_weight=-1", "losses: mlm_weight is -1.0; expected: at least 0"),
    ("train.beta_2=1", "beta_2 is 1.0; expected: 0 to 0.999999"),
    ("sampling.mask_rate=0", "sampling.mask_rate is 0 and losses.mlm_weight is 1; .*losses.mlm_weight=0"),
    ("sampling.negative_share=0", "negative_share is 0 and losses.itm_weight is 1: every picture gets its own text"),
    ("sampling.negative_share=1", "negative_share is 1 and losses.itm_weight is 1: every picture gets another product's text"),
])
def test_numbers_out_of_range_name_the_key(written, word, message):
    with pytest.raises(UserError, match=message):
        configs.load(configs.PretrainConfig, written(PRETRAIN), [word])


@pytest.mark.parametrize("words, message", [
    (["losses={mlm_weight: 0, itm_weight: 0}", "levels=[{name: a, grid: 1, pretext: none}]"],
     r"every loss has weight 0 \(losses.mlm_weight, losses.itm_weight, losses.itc_weight\); expected: one weight above 0"),
    (["losses.itc_weight=1", "sampling={negative_share: 1, losses_on_negatives: all}", "losses.itm_weight=0"],
     "hardly any picture of the validation split has its own text"),
    (["losses.itc_weight=1", "data={bank: , files: rows}"], "losses.itc_weight is 1, of released files"),
    (["losses={mlm_weight: 0, itm_weight: 0}", "levels=[{name: a, grid: 1, pretext: rotate, weight: 0}]"], "weight of level a\\)"),
    (["losses.itm_weight=0", "sampling.negative_share=1"], "losses_on_negatives is itm-only: no example counts"),
    (["data={bank: , files: rows}", "levels=[{name: a, grid: 1, pretext: none}]"], "levels: a without a pretext, of released files"),
])
def test_tasks_without_an_answer_to_learn_are_refused(written, words, message):
    with pytest.raises(UserError, match=message):
        configs.load(configs.PretrainConfig, written(PRETRAIN), words)


@pytest.mark.parametrize("words", [["losses.mlm_weight=0", "sampling.mask_rate=0"], ["losses.itm_weight=0", "sampling.negative_share=0"],
                                   ["losses={mlm_weight: 0, itm_weight: 0}"], ["levels=[{name: a, grid: 1, pretext: none}]"]])
def test_tasks_may_be_left_out(written, words):
    config = configs.load(configs.PretrainConfig, written(PRETRAIN), words)
    assert 0 in (config.losses.mlm_weight, config.losses.itm_weight) or config.levels[0].pretext == "none"

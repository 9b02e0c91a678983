"""The commands in one table, the downstream tasks among them, and the tables whose rows configurations name.

A command is a module of app_zoo with ``dry_run(config)`` and ``run(config)``. Its configuration class stands in its row, or is the class
``Config`` of its module, which is then loaded when the command is called.
"""

import importlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from kaleidobert import configs
from kaleidobert.configs.catalogue import CatalogueCheckConfig, CatalogueRunConfig
from kaleidobert.configs.demo import DemoConfig
from kaleidobert.configs.export import ExportConfig
from kaleidobert.configs.predict import PredictConfig
from kaleidobert.configs.search import IndexConfig, SearchConfig
from kaleidobert.configs.sharing import PullConfig, PushConfig
from kaleidobert.datasets.sources import SOURCES
from kaleidobert.evaluators.candidates import PROTOCOLS
from kaleidobert.preprocessors.alignment_guided_masking import POLICIES
from kaleidobert.preprocessors.encoders import ENCODERS, GRID_ENCODERS

# {name of a table: its rows}; a key of a configuration names its table in configs.section.key(..., table=...)
TABLES: dict[str, Mapping[str, Any]] = {
    "sources": SOURCES, "patch encoders": ENCODERS, "grid encoders": GRID_ENCODERS, "masking policies": POLICIES, "protocols": PROTOCOLS,
}


@dataclass(frozen=True)
class Command:
    """A row of COMMANDS or TASKS.

    line: what --help says of it. config: its configuration class, None = ``Config`` of its module. example: words of a call. module: its
    full name, "" = that of the command in app_zoo. needs_backend: whether it loads a network library. takes_folders: its words without
    "=" are folders, the values of its key ``runs``, and no configuration. leading: keys whose values its first words may be, in their
    order, instead of a configuration. takes_query: its words without a key are an index, and what is searched for: words, or the path of a
    picture.
    """

    line: str
    config: type | None = None
    example: str = ""
    module: str = ""
    needs_backend: bool = True
    takes_folders: bool = False
    leading: tuple[str, ...] = ()
    takes_query: bool = False


COMMANDS = {
    "fetch": Command("fetch data and checkpoints: resumed, checked, from the web, S3 or a mirror", configs.FetchConfig,
                     "fetch only=pretrain", needs_backend=False),
    "convert": Command("TensorFlow 1 checkpoints, released or BERT, to ours, and ours to the released format", configs.ConvertConfig,
                       "convert source=my/checkpoint/model.ckpt-0 target=my/model.npz"),
    "synthesize": Command("draw a catalogue of garments, shoes and bags with masks and part boxes", configs.SynthesizeConfig,
                          "quickstart/synthesize num_products=600", needs_backend=False),
    "records": Command("make the feature bank of a catalogue: foreground, patches, features, tokens", configs.RecordsConfig, "records"),
    "train-foreground": Command("train the network that finds the foreground, on drawn scenes alone", configs.TrainForegroundConfig,
                                "train_foreground install=true"),
    "align": Command("link the words of texts to patches: by a captioner's attention, or by word presence", configs.AlignConfig,
                     "align mode=word_presence"),
    "pretrain": Command("pre-train on a bank with the seven tasks", configs.PretrainConfig, "pretrain train.batch_size=32"),
    "evaluate": Command("count scores, classes or captions of any model: intervals, baselines, paired tests", configs.EvaluateConfig,
                        "evaluate scores=my/scores.csv run=runs/mine", needs_backend=False),
    "inspect": Command("draw pages: patches, tokens, what was spoiled, predictions beside the truth", configs.InspectConfig,
                       "quickstart/inspect"),
    "tables": Command("put the results of runs into the paper's tables, its rows beside ours", configs.TablesConfig,
                      "runs/quickstart out=runs", needs_backend=False, takes_folders=True),
    "index": Command("vectors of a bank's pictures and texts, to be searched; follows the bank", IndexConfig, "quickstart/index",
                     "kaleidobert.app_zoo.search.index"),
    "search": Command("find products by words, by a picture, or by both: vectors first, then the matching head", SearchConfig,
                      'runs/quickstart/index "red striped t-shirt" top=10 page=runs/search.html', takes_query=True),
    "predict": Command("labels, captions, match scores and vectors of the pictures of a table or a folder", PredictConfig,
                       "runs/quickstart my/products.csv out=answers.jsonl", leading=("run", "source.table")),
    "push": Command("copy a run or a bank, with hashes and a model card, to a folder, to S3 or to a Hugging Face repository", PushConfig,
                    "runs/quickstart/i2t s3://my-bucket/models/i2t", needs_backend=False, leading=("source", "target")),
    "pull": Command("fetch what `push` copied, and check every byte of it", PullConfig, "s3://my-bucket/models/i2t runs/i2t",
                    needs_backend=False, leading=("source", "target")),
    "demo": Command("a web page that searches, shows and asks what a folder of runs has learnt", DemoConfig, "runs/quickstart",
                    leading=("run",)),
    "export": Command("a trained model as files that PyTorch and transformers load, without this package", ExportConfig,
                      "runs/quickstart/cat out=my/cat", leading=("run",)),
    "report": Command("one page of one or several runs: report card, tables, curves, pictures, lineage", configs.ReportConfig,
                      "runs/quickstart", needs_backend=False, takes_folders=True),
    "ablate": Command("the paper's Table 4: pre-train and judge every row with several seeds", configs.AblateConfig,
                      "ablate rows=[random,agm] seeds=[0,1,2,3]", needs_backend=False),
}
# words of two: the command line has them apart
CATALOGUE = {
    "catalogue check": Command("what a table holds, what of it is lost, and a configuration that reads it", CatalogueCheckConfig,
                               "my/products_export.csv", "kaleidobert.app_zoo.catalogue.check", leading=("source.table",)),
    "catalogue run": Command("from a table to labels, retrieval, captions and a report, with one dial", CatalogueRunConfig,
                             "my/products_export.csv size=small", "kaleidobert.app_zoo.catalogue.run", needs_backend=False,
                             leading=("source.table",)),
}
# the downstream tasks: each is one module of app_zoo and one YAML file of configs/; docs/extending.md adds one
TASKS = {
    "classify": Command("train and evaluate a classifier of one label column", configs.ClassifyConfig, "cat modality=image"),
    "retrieve": Command("rank candidate texts for pictures (i2t) or pictures for texts (t2i)", configs.RetrieveConfig, "i2t"),
    "caption": Command("train and write captions with the encoder: masked, refined or word by word", configs.CaptionConfig,
                       "caption mode=causal"),
}


def every() -> dict[str, Command]:
    """Returns the rows of COMMANDS, CATALOGUE and TASKS."""
    return {**COMMANDS, **CATALOGUE, **TASKS}


def config_class(name: str) -> type:
    """Returns the configuration class of a command; loads its module where the row has none."""
    return every()[name].config or module(name).Config


def load(name: str, path: str | Path | None, words: Sequence[str] = ()) -> Any:
    """Returns the configuration of a command as ``configs.load`` does, names checked against TABLES."""
    return configs.load(config_class(name), path, words, TABLES)


def module(name: str) -> ModuleType:
    """Returns the module of a command, which defines ``dry_run`` and ``run``."""
    if full := every()[name].module:
        return importlib.import_module(full)
    own = name.replace("-", "_")
    result = importlib.import_module(f"{__package__}.{own}")
    return importlib.import_module(f"{result.__name__}.{own}") if hasattr(result, "__path__") else result  # a folder of a large command

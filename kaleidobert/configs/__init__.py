"""The configuration of every command as frozen dataclasses; loader.py reads them from YAML and dotted words.

data: commands that prepare data. training: pretrain, align, train-foreground. tasks: downstream tasks, evaluate, tables, ablate, inspect.
catalogue: check and run. search: index, search and demo. section: keys and their limits. loader: YAML files, those of the package by
name, dotted words, and addresses (s3://, https://) as paths.
"""

from kaleidobert.configs.data import (
    Beam,
    Columns,
    ConvertConfig,
    Encoder,
    FetchConfig,
    FilesFormat,
    Foreground,
    NewParameters,
    RecordsConfig,
    Source,
    SynthesizeConfig,
    Text,
)
from kaleidobert.configs.loader import differences, dump, from_dict, load, to_dict
from kaleidobert.configs.tasks import (
    AblateConfig,
    CaptionConfig,
    ClassifyConfig,
    EvaluateConfig,
    EvaluationData,
    FineTuningConfig,
    InspectConfig,
    Matching,
    PredictionColumns,
    ReportConfig,
    RetrieveConfig,
    ScoreColumns,
    TablesConfig,
    Writing,
)
from kaleidobert.configs.training import (
    BERT_BASE,
    AlignConfig,
    Captioner,
    Data,
    Decoding,
    Grid,
    Losses,
    Model,
    Noise,
    PretrainConfig,
    Regions,
    Sampling,
    Train,
    TrainForegroundConfig,
    TrainingData,
    WordPresence,
)

__all__ = ["BERT_BASE", "AblateConfig", "AlignConfig", "Beam", "CaptionConfig", "Captioner", "ClassifyConfig", "Columns",
           "ConvertConfig", "Data", "Decoding", "Encoder", "EvaluateConfig", "EvaluationData", "FetchConfig", "FilesFormat",
           "FineTuningConfig", "Foreground", "Grid", "InspectConfig", "Losses", "Matching", "Model", "NewParameters",
           "Noise", "PredictionColumns", "PretrainConfig", "RecordsConfig", "Regions", "ReportConfig", "RetrieveConfig", "Sampling",
           "ScoreColumns", "Source", "SynthesizeConfig", "TablesConfig", "Text", "Train", "TrainForegroundConfig",
           "TrainingData", "WordPresence", "Writing", "differences", "dump", "from_dict", "load", "to_dict"]

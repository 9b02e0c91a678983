"""The configurations of the commands that train networks without a task of their own: pretrain, align and train-foreground.

The sections ``Data``, ``Model``, ``Train`` and ``Noise`` are those of the downstream tasks, too.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

from kaleidobert import levels
from kaleidobert.configs.section import Checked, Limits, key, required
from kaleidobert.errors import UserError
from kaleidobert.levels import KaleidoLevel, target_levels


@dataclass(frozen=True)
class Data:
    """Which bank, and what it must have been made with."""
    bank: Path = required("folder of the feature bank")
    encoder: str = key("", "refuse a bank of another encoder; empty = any")
    train_split: str = key("train", "split to train on")
    val_split: str = key("val", "split to evaluate on")
    train_share: float = key(1.0, "fraction of the training groups to use, drawn from the seed")


@dataclass(frozen=True)
class TrainingData(Data):
    """A bank, or the text files of the release (see released/rows.py), whose splits are files."""
    bank: Path | None = key(None, "folder of the feature bank; empty where files is set")  # type: ignore[assignment]  # wider
    files: Path | None = key(
        None, "released text files to train on or to retrieve from: a file, a list, a pattern with *, a folder of `convert`")
    val_files: Path | None = key(None, "released text files to evaluate on")
    val_limit: int = key(0, "of val_files only so many rows from the first on; 0 = all")
    schema: str | dict[str, str] = key("", 'columns of the files, as --input_schema or {name: "type:length"}; empty = as published')
    encoding: Literal["utf-8", "latin-1"] = key("utf-8", "encoding of texts in the files")
    vocabulary_size: int = key(30522, "size of the vocabulary of the ids in the files")
    threads: int = key(0, "threads that read files; 0 = one per core, at most 8")

    def __post_init__(self) -> None:
        if self.bank is None and self.files is None:
            raise UserError("'data.bank' is not set, nor is 'data.files'", "", "a bank or released files")
        if self.bank is not None and self.files is not None:
            raise UserError("'data.bank' and 'data.files' are both set", "", "one of the two", "empty the other one (data.bank=)")
        if self.val_limit < 0 or self.val_limit and self.files is None:
            raise UserError(f"data.val_limit is {self.val_limit}", "", "0; of files (data.files) a number of rows")
        if self.files is not None and self.train_share != 1:
            raise UserError(f"data.train_share is {self.train_share}, of files", "", "1", "name fewer files in a list")


@dataclass(frozen=True)
class Model(Checked):
    """Sizes of the network; vocabulary, feature size and levels follow from the bank.

    A size that is None is that of the checkpoint which a command starts from (``init``), and of BERT-base without one.
    """
    hidden_size: int | None = key(None, "size of a token")
    num_layers: int | None = key(None, "Transformer blocks")
    num_heads: int | None = key(None, "attention heads; divide hidden_size")
    intermediate_size: int | None = key(None, "size inside a feed-forward layer")
    max_positions: int | None = key(None, "positions of the table of position embeddings; no text is longer")
    dropout: float | None = key(None, "dropout of embeddings and blocks")
    attention_dropout: float | None = key(None, "dropout of attention weights")
    initializer_range: float | None = key(None, "standard deviation of the truncated normal of random weights")
    standardise_features: bool | None = key(None, "bring every feature to mean 0 and spread 1, as measured on the bank")

    limits: ClassVar[Limits] = {
        "hidden_size": (1,), "num_layers": (1,), "num_heads": (1,), "intermediate_size": (1,), "max_positions": (1,),
        "dropout": (0, 0.99), "attention_dropout": (0, 0.99), "initializer_range": (1e-6, 10)}


BERT_BASE = Model(hidden_size=768, num_layers=12, num_heads=12, intermediate_size=3072, max_positions=512, dropout=0.1,
                  attention_dropout=0.1, initializer_range=0.02, standardise_features=False)


@dataclass(frozen=True)
class Train(Checked):
    """Optimiser, schedule, bookkeeping."""
    epochs: float = key(25.0, "passes over the training examples; a fraction is allowed")
    batch_size: int = key(64, "examples per step, over all devices")
    learning_rate: float = key(1e-4, "peak of the schedule")
    warmup_steps: int = key(0, "steps of the warm-up; 0 = the first warmup_share of all steps")
    warmup_share: float = key(0.1, "fraction of all steps that is the warm-up where warmup_steps is 0")
    decay: Literal["from-start", "after-warmup"] = key(
        "from-start",
        "linear decay from the first step, as released, so that the rate stays below learning_rate, or from the end of the warm-up (paper)")
    weight_decay: float = key(0.0, "decoupled weight decay of Adam")
    beta_1: float = key(0.9, "decay of Adam's first moment")
    beta_2: float = key(0.98, "decay of Adam's second moment")
    epsilon: float = key(1e-6, "epsilon of Adam")
    clip_norm: float = key(1.0, "largest L2 norm of all gradients together; 0 = no clipping")
    save_every: int = key(500, "steps between checkpoints, beside the one after every epoch")
    precision: Literal["float32", "mixed_bfloat16", "mixed_float16"] = key(
        "float32", "precision of the network; mixed_float16 has loss scaling and is for GPUs")
    seed: int = key(0, "seed of weights, order and sampling")
    gradient_accumulation_steps: int = key(1, "micro-batches that a step computes one after another, for less memory; divides batch_size")
    dynamic_padding: bool = key(True, "cut the padding that no text of a batch needs: the same answers, less work")
    gradient_checkpointing: bool = key(False, "compute the blocks again in the backward pass: less memory, a third more work")
    workers: int = key(1, "threads that make batches")
    devices: int = key(1, "GPUs (without any, CPU devices) of this process; 0 = all")

    limits: ClassVar[Limits] = {
        "epochs": (0,), "learning_rate": (0,), "warmup_steps": (0,), "weight_decay": (0,), "clip_norm": (0,), "seed": (0,),
        "warmup_share": (0, 1), "beta_1": (0, 0.999999), "beta_2": (0, 0.999999), "batch_size": (1,), "save_every": (1,),
        "epsilon": (1e-12,), "gradient_accumulation_steps": (1,), "workers": (1, 64), "devices": (0,)}


@dataclass(frozen=True)
class Noise(Checked):
    """What fine-tuning hides of its examples, at random: it keeps a small catalogue from being learnt by heart."""
    patch_dropout: float = key(0.0, "probability that the features of a patch are set to zero")
    token_dropout: float = key(0.0, "probability that a word piece becomes [MASK]")

    limits: ClassVar[Limits] = {"patch_dropout": (0, 1), "token_dropout": (0, 1)}


@dataclass(frozen=True)
class Sampling(Checked):
    """How examples are spoiled (paper, sections 3.2 and 3.3)."""

    masking: str = key(
        "alignment_guided", "what is masked: at random, or by Alignment Guided Masking (AGM), for which `kaleidobert align` must have run",
        table="masking policies")
    mask_rate: float = key(0.15, "fraction of a text's pieces that is masked, one at least; 0 = none")
    max_masked: int = key(10, "largest number of masked pieces of a text")
    whole_word: bool = key(False, "mask all pieces of a word together, as far as the quota allows")
    pairs: Literal["quota", "all"] = key("quota", "AGM: draw at most as many aligned words as tokens are masked, or all of them")
    camouflage: Literal["even", "guided"] = key(
        "even", "which patch is replaced: drawn evenly, or by AGM (paper), where other masks reveal it")
    negative_share: float = key(0.5, "fraction of the examples that get the text of another product")
    negatives_same_subcategory: float = key(
        0.5, "fraction of the negatives that come from the same subcategory; with losses.itc_weight they come from the batch in training")
    subcategory: str = key("subcategory", "label that is the subcategory")
    losses_on_negatives: Literal["itm-only", "all"] = key("itm-only", "losses that count on negatives: matching alone, or all")

    limits: ClassVar[Limits] = {"mask_rate": (0, 1), "negative_share": (0, 1), "negatives_same_subcategory": (0, 1), "max_masked": (1,)}


MIN_CONTRAST_BATCH = 8  # examples, from which on wrong texts of the batch are as many as sampling.negative_share says


@dataclass(frozen=True)
class Losses(Checked):
    """The seven losses, and one of ours; the weights of the image tasks are in the level table."""
    mlm_weight: float = key(1.0, "weight of masked language modelling; the image tasks have theirs in levels")
    itm_weight: float = key(1.0, "weight of image-text matching")
    itc_weight: float = key(0.0, "weight of image-text contrast of both sides before they meet in the encoder (ours); 0 = none (paper)")
    feature_target: Literal["per-patch", "joint"] = key(
        "per-patch", "target of grey: one softmax per patch (paper), or joint over all masked patches (release)")

    limits: ClassVar[Limits] = {"mlm_weight": (0,), "itm_weight": (0,), "itc_weight": (0,)}


def check_losses(table: Sequence[KaleidoLevel], sampling: Sampling, losses: Losses) -> None:
    """Raises UserError where a task is given weight that the sampling leaves without an answer to learn, or no task has weight."""
    weights = {"losses.mlm_weight": losses.mlm_weight, "losses.itm_weight": losses.itm_weight,
               "losses.itc_weight": losses.itc_weight}
    weights |= {f"weight of level {level.name}": level.weight for level in target_levels(table)}
    if table and not any(weights.values()):  # without a table those of the bank are not known yet
        raise UserError(f"every loss has weight 0 ({', '.join(weights)})", "", "one weight above 0 at least", "there is nothing to learn")
    if not sampling.mask_rate and losses.mlm_weight:
        raise UserError(f"sampling.mask_rate is 0 and losses.mlm_weight is {losses.mlm_weight:g}", "", "masked tokens to predict",
                        "set sampling.mask_rate above 0, or losses.mlm_weight=0 too")
    if sampling.negative_share in (0, 1) and losses.itm_weight:
        texts = "its own" if not sampling.negative_share else "another product's"
        raise UserError(f"sampling.negative_share is {sampling.negative_share:g} and losses.itm_weight is {losses.itm_weight:g}: every "
                        f"picture gets {texts} text, so that the matching task has one answer", "", "a fraction between 0 and 1",
                        "set sampling.negative_share=0.5, or losses.itm_weight=0 too")
    if sampling.negative_share == 1 and losses.itc_weight:
        raise UserError(f"sampling.negative_share is 1 and losses.itc_weight is {losses.itc_weight:g}: hardly any picture of the "
                        "validation split has its own text", "", "a fraction below 1",
                        "set sampling.negative_share=0.5, or losses.itc_weight=0")
    if sampling.negative_share == 1 and sampling.losses_on_negatives == "itm-only":
        raise UserError("sampling.negative_share is 1 and sampling.losses_on_negatives is itm-only: no example counts", "",
                        "examples that match", "set sampling.negative_share below 1")


@dataclass(frozen=True)
class PretrainConfig(Checked):
    """``kaleidobert pretrain``"""
    run: Path = required("folder of the run: its configuration, log, checkpoints and results")
    data: TrainingData = required("what to train on")
    levels: tuple[KaleidoLevel, ...] = key(
        (), "kaleido levels to train: rows of name, grid, pretext, num_masked, weight (of the loss); empty = those of the bank")
    model: Model = key(BERT_BASE, "sizes of the network")
    sampling: Sampling = key(Sampling(), "how examples are masked and paired")
    losses: Losses = key(Losses(), "weights of the text tasks, and the target of grey")
    held_out: float = key(
        0.05,
        "fraction of the training groups that chooses the best epoch; 0 = none, the last one is kept; of data.files data.val_files chooses")
    train: Train = key(Train(), "optimiser and schedule")
    init: Path | None = key(None, "checkpoint to start from; empty = random weights")
    init_optimizer: bool = key(False, "continue at the step of init, with its state of Adam")

    limits: ClassVar[Limits] = {"held_out": (0, 0.5)}

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.levels:
            levels.check(self.levels)
        check_losses(self.levels, self.sampling, self.losses)
        if self.losses.itc_weight and self.data.files is not None:
            raise UserError(f"losses.itc_weight is {self.losses.itc_weight:g}, of released files", "", "0: the files do not say which "
                            "products belong together, and so what is no negative", "set losses.itc_weight=0, or train on a bank")
        bare = [level.name for level in self.levels if not level.answer]
        if bare and self.data.files is not None:
            raise UserError(f"levels: {', '.join(bare)} without a pretext, of released files", "", "a pretext: patches of the files are "
                            "spoiled already", "give the levels the pretexts of configs/pretrain.yaml, or train on a bank")


@dataclass(frozen=True)
class Grid(Checked):
    """What the captioner sees: a grid of features of the foreground box."""
    network: str = key(
        "mobilenet_v2", "picture encoder of the captioner; small is trained along with it", table="grid encoders")
    size: int = key(224, "pixels to which the foreground box is resized; small has 8 pixels per cell, the others 16")
    weights: Path | None = key(None, "weights file of a network that is not small; empty = ImageNet weights, as of encoder.weights")
    channels: int = key(96, "small only: features per cell")
    augment: bool = key(True, "small only: mirror and move the pictures while training")
    keep: bool = key(False, "keep the pictures or features on disk when all is done")

    limits: ClassVar[Limits] = {"channels": (1,)}


@dataclass(frozen=True)
class Captioner(Checked):
    """Show, Attend and Tell."""
    hidden_size: int = key(256, "size of the LSTM's state")
    embedding_size: int = key(128, "size of a word piece's embedding")
    attention_size: int = key(64, "size in which word and cells are compared")
    context_size: int = key(128, "size of a cell's features as the LSTM reads them")
    dropout: float = key(0.3, "dropout of word embeddings and of the output")
    query: Literal["state", "word"] = key("word", "what decides where to look: the LSTM's state (paper), or the word before as well")
    start: Literal["mean", "zero"] = key("mean", "first state of the LSTM: from the mean of all cells, or zero")
    positions: bool = key(True, "add its position in the picture to every cell")
    coverage: float = key(1.0, "weight of the doubly stochastic penalty of attention")
    grounding: float = key(1.0, "weight of looking where the word grounder looks for each word; 0 = none, as in the paper")
    min_count: int = key(2, "word pieces that are rarer in the training texts are unknown")
    patience: int = key(
        4, "epochs without a better result on what is held out, after which a training ends (the grounder's too); 0 = never")

    limits: ClassVar[Limits] = {"hidden_size": (1,), "embedding_size": (1,), "attention_size": (1,), "context_size": (1,),
                                "dropout": (0, 0.99), "coverage": (0,), "grounding": (0,), "min_count": (1,), "patience": (0,)}

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.grounding and self.query != "word":
            raise UserError(f"grounding is {self.grounding} and query is {self.query}", "section Captioner",
                            "query word, for grounding ties words to positions", "set captioner.grounding=0 as in the paper, or query=word")


@dataclass(frozen=True)
class WordPresence(Train):
    """The network of mode word_presence (ours), and its training, the last step of which is kept."""
    hidden_size: int = key(64, "size of a patch's hidden features")
    members: int = key(4, "networks with other start weights whose evidence is averaged")
    sharpness: float = key(1.0, "of the soft maximum over the patches: near 0 it is their mean, above 5 the highest alone")
    competition: float = key(0.5, "how much terms compete for a patch: 0 = not at all")
    dropout: float = key(0.2, "dropout of the patches' features")
    min_count: int = key(5, "training texts that a content word, or a pair of them, stands in at least, to be looked for")

    limits: ClassVar[Limits] = {**Train.limits, "hidden_size": (1,), "members": (1, 64), "sharpness": (0.01, 100),
                                "competition": (0, 1), "dropout": (0, 0.99), "min_count": (1,)}


@dataclass(frozen=True)
class Decoding(Checked):
    """How captions are written."""
    num_beams: int = key(3, "captions followed at a time; 1 = greedy")
    length_penalty: float = key(0.7, "power of the length by which log-likelihoods are divided")
    max_length: int = key(0, "largest number of word pieces of a caption; 0 = as many as the longest text of the bank")

    limits: ClassVar[Limits] = {"num_beams": (1,), "length_penalty": (0,), "max_length": (0,)}


@dataclass(frozen=True)
class Regions(Checked):
    """How the map of a word becomes links to patches."""
    threshold: float = key(0.5, "fraction of its maximum that the map of a word reaches inside the word's region")
    relative_threshold: float = key(0.5, "fraction of the strength of its level's best patch from which a patch is linked")
    top_k: int = key(2, "patches linked per word and level")
    content_only: bool = key(False, "link no stop words, numbers and punctuation (ours)")

    limits: ClassVar[Limits] = {"threshold": (0, 1), "relative_threshold": (0, 1), "top_k": (1,)}


@dataclass(frozen=True)
class AlignConfig(Checked):
    """``kaleidobert align``: link the words of every text to patches, by a captioner's attention or by word presence."""
    run: Path = required("folder of the run: its configuration, log, checkpoints and results")
    data: Data = required("bank whose texts and pictures are aligned")
    mode: Literal["generated", "teacher_forced", "word_presence"] = key(
        "generated", "maps of words that the captioner wrote itself (paper), of the text's own words, or of word presence without a "
        "captioner (ours)")
    word_presence: WordPresence = key(
        WordPresence(epochs=30, batch_size=32, learning_rate=3e-3, warmup_share=0.0, beta_2=0.99, epsilon=1e-7, clip_norm=0.0),
        "network of mode word_presence and its training; grid, captioner, word_grounding, train, decoding and held_out are of the others")
    grid: Grid = key(Grid(), "what the captioner sees: a grid of features of the foreground box")
    captioner: Captioner = key(Captioner(), "sizes and options of Show, Attend and Tell")
    word_grounding: Train = key(
        Train(epochs=30, batch_size=32, learning_rate=2e-3, beta_2=0.999, clip_norm=5.0),
        "training of the word grounder, which runs where captioner.grounding is above 0")
    train: Train = key(Train(epochs=30, learning_rate=1e-3, beta_2=0.999, clip_norm=5.0), "training of the captioner")
    decoding: Decoding = key(Decoding(), "how captions are written")
    regions: Regions = key(Regions(), "how the map of a word becomes links to patches")
    held_out: float = key(
        0.05,
        "fraction of the training groups that chooses the best epochs and ends trainings (captioner.patience); 0 = last epochs are kept")
    subcategory: str = key("subcategory", 'label of the baseline "most frequent caption of the predicted subcategory"')
    baselines: bool = key(True, "count simple captions beside the captioner's")
    keep_maps: bool = key(True, "write the words' maps into the run folder")
    predict_batch_size: int = key(64, "pictures per step of prediction")

    limits: ClassVar[Limits] = {"held_out": (0, 0.5)}


@dataclass(frozen=True)
class TrainForegroundConfig(Checked):
    """``kaleidobert train-foreground``: the foreground network, trained on drawn scenes."""
    run: Path = required("folder of the run: its configuration, log, checkpoints and results")
    foregrounds: int = key(6000, "products drawn for the training")
    backgrounds: int = key(5000, "backgrounds drawn for the training")
    scenes: int = key(20000, "scenes put together of them in an epoch, every one new")
    held_out: int = key(240, "scenes drawn for the test: other products, other families of backgrounds")
    goods: int = key(80, "scenes drawn for the test, too: small things that no drawn catalogue has, such as watches")
    size: int = key(160, "side in pixels to which every picture is squeezed for the network")
    channels: tuple[int, ...] = key((16, 32, 48, 64, 96), "features at 1/2, 1/4, ... of the size")
    train: Train = key(
        Train(epochs=11, batch_size=16, learning_rate=3e-3, warmup_share=0.05, weight_decay=1e-4, beta_2=0.99, epsilon=1e-7,
              precision="mixed_bfloat16", decay="after-warmup"),
        "optimiser and schedule")
    average: float = key(0.998, "momentum of the running average of the weights")
    install: bool = key(False, "put the weights into the package")
    workers: int = key(0, "processes that draw; 0 = one per core")

    limits: ClassVar[Limits] = {"foregrounds": (1,), "backgrounds": (1,), "scenes": (1,), "held_out": (1,), "goods": (1,), "size": (16,),
                              "average": (0, 0.9999)}

"""The sections that the commands which train a network share, re-exported by the package: sizes, spoiling, losses, schedule."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

from kaleidobert.configs.section import Checked, Limits, key
from kaleidobert.errors import UserError
from kaleidobert.levels import KaleidoLevel, asked_levels


@dataclass(frozen=True)
class Model(Checked):
    """Sizes of the network; vocabulary, feature size and levels follow from the bank."""
    hidden_size: int = key(768, "size of a token")
    num_layers: int = key(12, "Transformer blocks")
    num_heads: int = key(12, "attention heads; divide hidden_size")
    intermediate_size: int = key(3072, "size inside a feed-forward layer")
    max_positions: int = key(512, "positions of the table of position embeddings; no text is longer")
    dropout: float = key(0.1, "dropout of embeddings and blocks")
    attention_dropout: float = key(0.1, "dropout of attention weights")
    initializer_range: float = key(0.02, "standard deviation of the truncated normal of random weights")
    standardise_features: bool = key(False, "bring every feature to mean 0 and spread 1, as measured on the bank")

    limits: ClassVar[Limits] = {
        "hidden_size": (1,), "num_layers": (1,), "num_heads": (1,), "intermediate_size": (1,), "max_positions": (1,),
        "dropout": (0, 0.99), "attention_dropout": (0, 0.99), "initializer_range": (1e-6, 10)}


@dataclass(frozen=True)
class Sampling(Checked):
    """How examples are spoiled (paper, sections 3.2 and 3.3)."""

    masking: str = key(
        "alignment_guided", "what is masked: at random, or by Alignment Guided Masking (AGM), for which `kaleidobert align` must have run",
        table="masking policies")
    mask_rate: float = key(0.15, "share of a text's pieces that is masked, one at least; 0 = none")
    max_masked: int = key(10, "most masked pieces of a text")
    whole_word: bool = key(False, "mask all pieces of a word together, as far as the quota allows")
    pairs: Literal["quota", "all"] = key("quota", "AGM: draw at most as many aligned words as tokens are masked, or all of them")
    camouflage: Literal["even", "guided"] = key(
        "even", "which patch is replaced: drawn evenly, or by AGM (paper), where other masks tell it")
    negative_share: float = key(0.5, "share of the examples that get the text of another product")
    negatives_same_subcategory: float = key(0.5, "share of the negatives that come from the same subcategory")
    subcategory: str = key("subcategory", "label that is the subcategory")
    losses_on_negatives: Literal["itm-only", "all"] = key("itm-only", "losses that count on negatives: matching alone, or all")

    limits: ClassVar[Limits] = {"mask_rate": (0, 1), "negative_share": (0, 1), "negatives_same_subcategory": (0, 1), "max_masked": (1,)}


@dataclass(frozen=True)
class Losses(Checked):
    """The seven losses; the weights of the image tasks are in the level table."""
    mlm_weight: float = key(1.0, "weight of masked language modelling; the image tasks have theirs in levels")
    itm_weight: float = key(1.0, "weight of image-text matching")
    feature_target: Literal["per-patch", "joint"] = key(
        "per-patch", "target of grey: one softmax per patch (paper), or joint over all masked patches (release)")

    limits: ClassVar[Limits] = {"mlm_weight": (0,), "itm_weight": (0,)}


def check_asked(levels: Sequence[KaleidoLevel], sampling: Sampling, losses: Losses) -> None:
    """Raises UserError where a task is given weight that the sampling leaves without an answer to learn, or no task has weight."""
    weights = {"losses.mlm_weight": losses.mlm_weight, "losses.itm_weight": losses.itm_weight}
    weights |= {f"weight of level {level.name}": level.weight for level in asked_levels(levels)}
    if not any(weights.values()):
        raise UserError(f"every loss has weight 0 ({', '.join(weights)})", "", "one weight above 0 at least", "there is nothing to learn")
    if not sampling.mask_rate and losses.mlm_weight:
        raise UserError(f"sampling.mask_rate is 0 and losses.mlm_weight is {losses.mlm_weight:g}", "", "masked tokens to predict",
                        "set sampling.mask_rate above 0, or losses.mlm_weight=0 too")
    if sampling.negative_share in (0, 1) and losses.itm_weight:
        texts = "its own" if not sampling.negative_share else "another product's"
        raise UserError(f"sampling.negative_share is {sampling.negative_share:g} and losses.itm_weight is {losses.itm_weight:g}: every "
                        f"picture gets {texts} text, so that the matching task has one answer", "", "a share between 0 and 1",
                        "set sampling.negative_share=0.5, or losses.itm_weight=0 too")
    if sampling.negative_share == 1 and sampling.losses_on_negatives == "itm-only":
        raise UserError("sampling.negative_share is 1 and sampling.losses_on_negatives is itm-only: no example counts", "",
                        "examples that match", "set sampling.negative_share below 1")


@dataclass(frozen=True)
class Train(Checked):
    """Optimiser, schedule, bookkeeping."""
    epochs: float = key(25.0, "passes over the training examples; a fraction is allowed")
    batch_size: int = key(64, "examples per step, over all devices")
    learning_rate: float = key(1e-4, "peak of the schedule")
    warmup_steps: int = key(0, "steps of the warm-up; 0 = the first warmup_share of all steps")
    warmup_share: float = key(0.1, "share of all steps that is the warm-up where warmup_steps is 0")
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
class Matching(Checked):
    """Fine-tuning of the matching task before retrieval; train.epochs 0 = the head of pre-training as it is."""
    head: Literal["plain", "product", "dual_encoder"] = key(
        "plain", "matching head: that of pre-training, with a product (ours), or with two towers that are trained first (ours)")
    objective: Literal["pairwise", "listwise"] = key("pairwise", "loss per pair, or softmax over a right pair and its negatives")
    negatives: int = key(3, "negatives per example")
    negatives_same_subcategory: float = key(0.5, "share of the negatives that come from the same subcategory")
    width: int = key(512, "size of the towers of dual_encoder")
    feature_dropout: float = key(0.3, "dropout of the features in the picture tower of dual_encoder")

    limits: ClassVar[Limits] = {"negatives": (1,), "negatives_same_subcategory": (0, 1), "width": (1,), "feature_dropout": (0, 0.99)}

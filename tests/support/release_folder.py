"""A repository's dataset/ and checkpoint/ filled as `kaleidobert fetch` fills them from the release: names, columns and sizes are the
release's, what stands in them is drawn, and the network is small.

    python -m tests.support.release_folder FOLDER [base]        # base: the network of the release, 121 million parameters
"""

import json
import sys
from pathlib import Path

import numpy as np

from kaleidobert.levels import KALEIDO
from kaleidobert.model_zoo.kaleidobert import Backbone, Pretrainer
from kaleidobert.released import checkpoints, tf_checkpoint
from kaleidobert.released.checkpoints import config_json
from kaleidobert.remote import manifests
from tests.support import released_data, released_writer
from tests.support.released_data import RELEASE

ROOT = Path(__file__).resolve().parents[2]
STEP = 50683
SMALL = {"hidden_size": 16, "num_layers": 1, "num_heads": 2, "intermediate_size": 16}
BASE = {"hidden_size": 768, "num_layers": 12, "num_heads": 12, "intermediate_size": 3072}
PARTS = {"pretrain/pretrain_train": ("pretrain", 4), "pretrain/pretrain_valid": ("pretrain", 2), "finetune/finetune_train": ("finetune", 4),
         "finetune/finetune_valid": ("finetune", 2), "retrieve/retrieve_i2t": ("retrieve", 3), "retrieve/retrieve_t2i": ("retrieve", 3)}


def names(part: str) -> list[str]:
    """The data files of a part, as the manifest names them."""
    return [file.name for file in manifests.read(ROOT / "dataset/manifest.json") if file.name.startswith(f"{part}__")]


def data(root: Path, files: int = 2, rows: dict[str, int] | None = None) -> None:
    """The first ``files`` data files of every part; rows: {part: rows in each file} where it is not as in PARTS."""
    for number, (part, (task, count)) in enumerate(PARTS.items()):
        count = (rows or {}).get(part, count)
        columns = released_data.columns(task, files * count, seed=number, sizes=RELEASE)
        if part.endswith("t2i"):  # every text has its three pictures
            asked = np.arange(files * count) // 3
            columns |= {"text_prod_id": np.char.add("T", asked.astype(str))[:, None]}
            columns |= {name: np.array([f"{letter}{row}" for row in range(files * count)])[:, None]
                        for name, letter in (("image_prod_id", "P"), ("prod_img_id", "I"))}
        for file, name in enumerate(names(part)[:files]):
            batch = {key: value[file * count : (file + 1) * count] for key, value in columns.items()}
            released_writer.write(root / "dataset" / name, released_data.schema(task, sizes=RELEASE), [batch], digits=3)


def lists(root: Path) -> None:
    """The list files that the released scripts make before they start, of names from the repository on."""
    for part, name in (("pretrain/pretrain_train", "train"), ("pretrain/pretrain_valid", "dev"), ("retrieve/retrieve_i2t", "eval_img2txt"),
                       ("retrieve/retrieve_t2i", "eval_txt2img"), ("finetune/finetune_train", "train_catepred"),
                       ("finetune/finetune_valid", "eval_catepred"), ("finetune/finetune_train", "train_subcatepred"),
                       ("finetune/finetune_valid", "eval_subcatepred")):
        found = sorted((root / "dataset").glob(f"{part}__*"))
        released_writer.write_list(root / f"dataset/{name}_list.list_csv", [f"./{path.relative_to(root)}" for path in found])


def checkpoint(root: Path, sizes: dict[str, int] = SMALL, slots: bool = True) -> Path:
    """checkpoint/pretrained: weights, with ``slots`` the state of Adam, config.json and a .meta, which nobody reads; its prefix."""
    sizes = sizes | {"feature_size": RELEASE.features, "vocabulary_size": RELEASE.vocabulary, "text_length": RELEASE.text}
    backbone = Backbone(KALEIDO, seed=1, **sizes)
    weights = checkpoints.export_weights(Pretrainer(backbone))
    state = {f"{name}{slot}": np.zeros_like(array) for name, array in weights.items() for slot in ("/Adam", "/Adam_1") if slots}
    powers = {name: np.float32(0) for name in ("beta1_power", "beta2_power") if slots}
    prefix = root / f"checkpoint/pretrained/kaleidobert.ckpt-{STEP}"
    tf_checkpoint.write(prefix, {**weights, **state, **powers, "global_step": np.array(STEP, np.int64)})
    prefix.with_name("checkpoint").unlink()  # the release has none
    prefix.with_name(f"{prefix.name}.meta").write_bytes(b"\n\0graph")
    values = {key: value for key, value in config_json(backbone).items() if key != "text_seq_len"}  # that one is ours
    prefix.with_name("config.json").write_text(json.dumps(values))
    return prefix


if __name__ == "__main__":
    folder, *more = sys.argv[1:]
    base = more == ["base"]
    data(Path(folder), rows={"retrieve/retrieve_i2t": 32} if base else None)
    lists(Path(folder))
    print(checkpoint(Path(folder), BASE if base else SMALL, slots=not base))

"""What an export answers, by torch and transformers alone: python answers.py FOLDER INPUTS.npz OUTPUTS.npz

INPUTS.npz has arrays by the names of the model's inputs, and for exports that read pictures picture_0, picture_1, ... uint8[h, w, 3] and
texts. OUTPUTS.npz has the model's answers as "features/NAME", those about the pictures as "pictures/NAME", what a captioner writes as
NAME = "captions" (ids) and "texts", and the version of Pillow as "pillow".

The package kaleidobert cannot be imported here, even where it is installed. Ends with 3, and one line on standard error, where the folder
cannot be loaded exactly.
"""

import sys
from typing import Any

import numpy as np

PICTURE = "picture_"


def main(folder: str, inputs_path: str, outputs_path: str) -> int:
    """Loads the folder, answers, and returns the exit status."""
    sys.modules["kaleidobert"] = None  # type: ignore[assignment]  # whoever imports it gets an ImportError
    import PIL
    import torch
    from PIL import Image
    from transformers import AutoModel, AutoProcessor

    with np.load(inputs_path, allow_pickle=False) as file:
        given = dict(file)
    try:
        model, loaded = AutoModel.from_pretrained(folder, trust_remote_code=True, output_loading_info=True, ignore_mismatched_sizes=True)
        wrong = {name: sorted(loaded[name]) for name in ("missing_keys", "unexpected_keys", "mismatched_keys") if loaded.get(name)}
        if wrong:
            raise ValueError(f"weights do not fit: {wrong}")
        pictures = [Image.fromarray(given.pop(f"{PICTURE}{number}")) for number in range(sum(name.startswith(PICTURE) for name in given))]
        texts = [str(text) for text in given.pop("texts", [])]
        processor = AutoProcessor.from_pretrained(folder, trust_remote_code=True) if pictures or texts else None
    except Exception as error:  # a damaged file raises many types
        print(f"{type(error).__name__}: {' '.join(str(error).split())[:500]}", file=sys.stderr)
        return 3
    model.eval()
    outputs: dict[str, np.ndarray] = {}
    with torch.no_grad():
        if given:
            outputs |= answers(model, "features", {name: torch.from_numpy(array) for name, array in given.items()}, processor)
        if processor is not None:
            inputs = dict(processor(images=pictures or None, text=texts or None))
            outputs |= answers(model, "pictures", inputs, processor)
            if "pixel_values" in inputs:
                outputs["pictures/patch_features"] = numpy_of(model.kaleido_bert.encode_pixels(inputs["pixel_values"]))
                outputs["pictures/patch_boxes"] = numpy_of(inputs["patch_boxes"])
    np.savez(outputs_path, **{"pillow": np.array(PIL.__version__), **outputs})  # type: ignore[arg-type]  # names with "/" are no keywords
    return 0


def answers(model: Any, name: str, inputs: dict[str, Any], processor: Any) -> dict[str, np.ndarray]:
    """Returns {name/OUTPUT: array} of the model's outputs, and of what it writes."""
    result: dict[str, np.ndarray] = {}
    for key, value in model(**inputs).items():
        result |= {f"{name}/{part}": numpy_of(tensor) for part, tensor in (value.items() if isinstance(value, dict) else [(key, value)])}
    pictures = {key: inputs[key] for key in ("pixel_values", "patch_features", "patch_boxes") if key in inputs}
    if hasattr(model, "beam_search") and pictures:
        ids = model.generate(**pictures)
        result[f"{name}/captions"] = numpy_of(ids)
        if processor is not None:
            result[f"{name}/texts"] = np.array(processor.batch_decode(ids))
    return result


def numpy_of(tensor: Any) -> np.ndarray:
    """Returns a tensor as an array."""
    return tensor.detach().cpu().numpy()


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))

"""A released checkpoint, exported for transformers, answers as the released code did (golden/G1), without this package."""

import numpy as np
import pytest

from kaleidobert.app_zoo.export import parity
from kaleidobert.configs.export import ExportConfig
from tests.support import golden_data as data
from tests.support.apps_data import call
from tests.support.export_data import PYTHON, needs_transformers
from tests.support.golden_data import close, needs_golden

pytestmark = [needs_golden, needs_transformers]
NAMES = {"mlm_logits": "mlm", "itm_logits": "nsp", "rotation": "rotation", "jigsaw": "jigsaw", "camouflage": "camouflage",
         "grey": "greymask", "blank": "blankmask"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("golden") / "exported"
    done = call("export", ExportConfig(run=data.GOLDEN / "G1/ckpt/model.ckpt-0", out=made, check_rows=2, python=PYTHON))
    assert done.status == 0, done.err
    return made


def test_logits_are_those_of_the_released_code(folder):
    golden = data.load("G1")
    answers = parity.ask(folder, data.pretraining(golden)["inputs"], [], [], PYTHON)
    for theirs, released in NAMES.items():
        expected = golden[f"eval.{released}_logits"]
        close(np.reshape(answers[f"features/{theirs}"], expected.shape), expected, data.LOGITS, what=theirs)

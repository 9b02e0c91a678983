import json
import subprocess
import sys
from math import prod
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from benchmarks import floors, flops, prediction, random_bank, report, training_step
from kaleidobert import levels as kaleido
from kaleidobert.datasets.bank.bank import Bank
from kaleidobert.errors import UserError
from kaleidobert.levels import KALEIDO, KaleidoLevel
from kaleidobert.losses import pretraining as losses
from kaleidobert.model_zoo.kaleidobert import Matcher, Pretrainer
from tests.support.network_data import SIZES, TABLES, backbone
from tests.support.network_data import batch as make_batch

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]


def tables(text: str) -> list[dict[str, list[str]]]:
    """The Markdown tables of a text, {first cell of a row: its other cells}, without the line under the head."""
    found, inside = [], False
    for line in text.splitlines():
        if line.startswith("|") and not inside:
            found.append({})
        inside = line.startswith("|")
        if inside and not line.startswith("|---"):
            first, *rest = [cell.strip() for cell in line.strip("|").split("|")]
            found[-1][first] = rest
    return found


def check_report(printed: str, written: dict, case: str, floor_names: list[str]) -> None:
    """What was printed is what was written, and ratios follow from times and work."""
    times, ratios = tables(printed)
    assert printed.startswith(f"## {written['title']}\n")
    assert list(times) == ["", case, *floor_names] and times[""] == ["work", "wall ms", "wall rate", "cpu ms", "cpu rate"]
    assert list(ratios) == [f"rate of the {case} as a share of", *floor_names]
    first, *others = written["timings"]
    for row in written["timings"]:
        for clock, cell in (("wall", 1), ("cpu", 3)):
            assert min(row["seconds"][clock]) > 0
            assert float(times[row["name"]][cell]) == pytest.approx(1e3 * np.median(row["seconds"][clock]), abs=0.006)
    for floor in others:
        for clock, cell in (("wall", 0), ("cpu", 1)):
            value = [f / s * first["work"] / floor["work"] for s, f in zip(first["seconds"][clock], floor["seconds"][clock])]
            assert written["ratios"][floor["name"]][clock]["median"] == pytest.approx(np.median(value))
            assert float(ratios[floor["name"]][cell].split()[0]) == pytest.approx(np.median(value), abs=0.0006)


# --- the programs -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("program", "case", "precision", "dtypes"), [
    (training_step, "training step", "mixed_bfloat16", ["float32", "bfloat16"]),
    (prediction, "prediction", "float32", ["float32"])])
def test_network_programs(program, case, precision, dtypes, capsys, tmp_path, monkeypatch):
    monkeypatch.setattr(floors, "LEAST_SECONDS", 0.001)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    path = tmp_path / "figures.json"
    words = ["--size", "tiny", "--batch", "2", "--repeats", "2", "--precision", precision, "--json", str(path)]
    assert program.main(words) == 0
    assert path.is_file() and not list(tmp_path.glob("kaleido-benchmark-*"))  # the bank is gone
    written = json.loads(path.read_text())
    config, holds = random_bank.config("tiny", 2), random_bank.content("tiny")
    shape = (2 * (holds.text_length + 55), config.model.hidden_size, config.model.intermediate_size)
    names = [f"matrix products {dtype}, {shape[0]} x {shape[1]} x {shape[2]}" for dtype in dtypes]
    check_report(capsys.readouterr().out, written, case, names)
    work = [row["work"] for row in written["timings"]]
    assert work[1:] == pytest.approx([16 * prod(shape) / 1e9] * len(dtypes))  # 4 times up and down, two FLOPs each
    parts = written["forward_flop_per_example"]
    assert work[0] == pytest.approx(2 * (flops.training(parts) if program is training_step else sum(parts.values())) / 1e9)
    if program is training_step:
        assert set(written["losses"]) == {"mlm", "itm", "loss", "gradient_norm"} | {level.name for level in KALEIDO}
        assert np.isfinite(list(written["losses"].values())).all()


def test_sampler_program(tmp_path):
    path = tmp_path / "figures.json"
    words = [sys.executable, "-m", "benchmarks.sampler", "--size", "tiny", "--batch", "8", "--pictures", "40", "--repeats", "2",
             "--json", str(path)]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    written = json.loads(path.read_text())
    width = random_bank.content("tiny").feature_size
    assert written["feature_bytes"] == 8 * (55 + 2 + 3) * width * 2 and written["bank_bytes"] == 40 * 74 * width * 2
    check_report(done.stdout, written, "sampler", [f"copying {written['feature_bytes'] / 1e6:.1f} MB"])
    assert not {"keras", "tensorflow"} & set(written["machine"]["versions"])  # the sampler needs neither


def test_wrong_arguments(capsys):
    with pytest.raises(SystemExit):
        prediction.main(["--batch", "0"])
    assert "0 is less than 1" in capsys.readouterr().err

    def refuse(options):
        raise UserError("no room", "disk")

    assert report.guarded(refuse, None) == 2
    assert capsys.readouterr().err == "disk: no room\n"


def test_a_gpu_is_timed_by_the_wall_only(capsys):
    seconds = {"wall": np.array([2.0, 2.0]), "cpu": np.array([9.0, 9.0])}
    case, floor = (floors.Timing(floors.Case(name, work, "GB", print), seconds) for name, work in (("case", 1.0), ("floor", 4.0)))
    machine = {"processor": "P", "cores": 2, "load": 0.5, "accelerators": ["G"], "versions": {"python": "3"}}
    result = report.show({"title": "t", "machine": machine}, case, [floor], None)
    assert result["ratios"] == {"floor": {"wall": {"median": 0.25, "low": 0.25, "high": 0.25}}}
    assert tables(capsys.readouterr().out) == [
        {"": ["work", "wall ms", "wall rate"], "case": ["1 GB", "2000.00", "0.5 GB/s"], "floor": ["4 GB", "2000.00", "2 GB/s"]},
        {"rate of the case as a share of": ["wall"], "floor": ["0.250 (0.250 to 0.250)"]}]


# --- timing and floors ------------------------------------------------------------------------------------------------


def test_interleaved(monkeypatch):
    now, log, slower = {"wall": 0.0, "cpu": 0.0}, [], [1.0]

    def case(name, work, wall, cpu):
        def run(times):
            log.append((name, times))
            slower[0] *= 1.01  # other people's programs take more and more of the machine
            now["wall"] += times * wall * slower[0]
            now["cpu"] += times * cpu

        return floors.Case(name, work, "GFLOP", run)

    monkeypatch.setattr(floors, "perf_counter", lambda: now["wall"])
    monkeypatch.setattr(floors, "process_time", lambda: now["cpu"])
    slow, fast = floors.interleaved([case("slow", 8.0, 4.0, 6.0), case("fast", 2.0, 0.5, 0.75)], 4)
    # both are warmed up and tried, then take turns from either side; the floor runs for half as long as the case
    warm_up, one, other = [("slow", 1), ("fast", 1)], ("slow", 1), ("fast", 4)
    assert log == [*warm_up, *warm_up, one, other, other, one, one, other, other, one]
    assert slow.seconds["cpu"].tolist() == pytest.approx([6.0] * 4) and fast.seconds["cpu"].tolist() == pytest.approx([0.75] * 4)
    by_cpu, by_wall = floors.ratio(slow, fast, "cpu"), floors.ratio(slow, fast, "wall")
    assert (by_cpu.low, by_cpu.median, by_cpu.high) == pytest.approx((0.5, 0.5, 0.5))  # 8/6 of 2/0.75
    assert (by_wall.low, by_wall.median, by_wall.high) == pytest.approx((0.5 / 1.01, 0.5, 0.505), rel=1e-4)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_matrix_products_stay_of_one_size(dtype):
    case = floors.matrix_products(6, 64, 256, dtype)
    assert case.work == pytest.approx(4 * 2 * 2 * 6 * 64 * 256 / 1e9) and dtype in case.name
    value = case.run(2)
    assert value.dtype == dtype and 1e-3 < abs(float(value)) < 10


def test_copies_walk_through_the_source(monkeypatch):
    seen = []
    monkeypatch.setattr(np, "copyto", lambda target, source: seen.append((target.nbytes, source.nbytes, source.ctypes.data)))
    case = floors.copies(100, 350)
    case.run(4)
    assert case.work == 100 / 1e9 and {row[:2] for row in seen} == {(100, 100)}
    assert [place - seen[0][2] for *_, place in seen] == [0, 100, 200, 0]


# --- sizes and bank ---------------------------------------------------------------------------------------------------


def test_bank_of_random_features(tmp_path, monkeypatch):
    monkeypatch.setattr(random_bank, "SHARD_SIZE", 16)
    random_bank.write(tmp_path, "tiny", 40)
    bank = Bank(tmp_path)
    bank.verify()
    assert bank.size == 40 and len(bank.index["shards"]) == 3 and bank.levels == KALEIDO
    assert random_bank.Content(bank.feature_size, bank.vocabulary.size, bank.text_length) == random_bank.content("tiny")
    assert len(bank.rows("train")) == 40 and len(set(bank.column("group"))) == 20 and len(set(bank.column("subcategory"))) == 16
    features = bank.features(np.array([0, 17, 39]), np.array([[0], [5], [73]]))[:, 0]
    assert features.shape == (3, bank.feature_size) and features.std() == pytest.approx(12**-0.5, rel=0.05)
    assert bank.token_ids.max() < bank.vocabulary.size and (bank.token_ids != bank.vocabulary.pad).sum(1).min() >= 8


@pytest.mark.parametrize("size", random_bank.SIZES)
def test_sizes_are_those_of_the_shipped_configurations(size):
    config, holds = random_bank.config(size, 3, "mixed_bfloat16"), random_bank.content(size)
    assert (config.train.batch_size, config.train.precision, config.sampling.masking) == (3, "mixed_bfloat16", "random")
    assert config.model.hidden_size % config.model.num_heads == 0 and config.levels == KALEIDO
    assert 8 <= holds.text_length <= config.model.max_positions
    assert size != "base" or (holds, config.model.hidden_size) == (random_bank.Content(2048, 30522, 64), 768)  # the paper's


def test_content_follows_records_yaml(tmp_path, monkeypatch):
    monkeypatch.setattr(random_bank, "CONFIGS", tmp_path)
    lines = ["base: " + str(ROOT / "configs/records.yaml"), "text: {vocabulary: , vocabulary_size: 70, length: 9}"]
    for encoder, width in (("{name: pixels, size: 5}", 75), ("{name: mobilenet_v2, size: 64}", 1280)):
        (tmp_path / "records.yaml").write_text("\n".join([*lines, f"encoder: {encoder}"]))
        assert random_bank.content("base") == random_bank.Content(width, 70, 9)


# --- FLOPs ------------------------------------------------------------------------------------------------------------


def test_flops_by_hand():
    sizes = {"hidden_size": 4, "num_layers": 2, "num_heads": 2, "intermediate_size": 6, "feature_size": 5, "vocabulary_size": 7,
             "text_length": 3}
    levels = (KaleidoLevel("turn", 1, "rotate"), KaleidoLevel("grey", 2, "grey", num_masked=2))
    parts = flops.pretrainer(sizes, levels, 2)  # 3 tokens + 5 patches
    assert parts == {"patches": 200, "boxes": 200, "attention_projections": 2048, "attention": 2048, "feed_forward": 1536,
                     "pooler": 32, "itm": 16, "mlm": 176, "turn": 32, "grey": 80}
    assert flops.training(parts) == 3 * 6368 - 400
    assert sum(flops.matcher(sizes, levels).values()) == 6080


def test_flops_of_the_paper_s_network():
    sizes = {"hidden_size": 768, "num_layers": 12, "num_heads": 12, "intermediate_size": 3072, "feature_size": 2048,
             "vocabulary_size": 30522, "text_length": 64}
    parts = flops.pretrainer(sizes, KALEIDO, 10)
    encoder = sum(parts[name] for name in ("attention_projections", "attention", "feed_forward"))
    assert encoder == 12 * 119 * (24 * 768**2 + 4 * 119 * 768)
    assert (parts["jigsaw"], parts["blank"]) == (2 * 4 * 768 * 24, 2 * 3 * 768 * 2048)
    assert parts["mlm"] == 20 * 768 * (768 + 30522)


@pytest.mark.parametrize("table", ["kaleido", "renamed"])
def test_flops_are_those_of_the_graph(table):
    levels, data = TABLES[table], make_batch(table, rows=2)
    data = {part: {name: tf.convert_to_tensor(array) for name, array in arrays.items()} for part, arrays in data.items()}
    model, by_task, sizes = Pretrainer(backbone(table, num_layers=1)), losses.for_tasks(levels), SIZES | {"num_layers": 1}
    hidden, slots = SIZES["hidden_size"], 2 + sum(level.num_masked for level in kaleido.feature_levels(levels))
    # look-ups by product: segments and type rows, and the gathering of masked positions
    rows = 2 * 2 * SIZES["text_length"] * 2 * hidden + len(levels) * 2 * max(6, len(levels) + 1) * hidden
    gathers = 2 * 2 * slots * (SIZES["text_length"] + kaleido.num_patches(levels)) * hidden
    parts = flops.pretrainer(sizes, levels, 2)

    def train(inputs, targets, weights):
        with tf.GradientTape() as tape:
            total = losses.total(by_task, model(inputs, training=True), targets, weights)["total"]
        return tape.gradient(total, [variable.value for variable in model.trainable_variables])

    assert products(lambda inputs: model(inputs, training=False), data["inputs"]) == 2 * sum(parts.values()) + rows + gathers
    # three for the gathers: the graph, not yet pruned, also holds the gradient of their one-hot rows
    assert products(train, *data.values()) == 2 * flops.training(parts) + 2 * rows + 3 * gathers
    matcher, parts = Matcher(model.backbone), flops.matcher(sizes, levels)
    assert products(lambda inputs: matcher(inputs, training=False), data["inputs"]) == 2 * sum(parts.values()) + rows


def products(function, *arguments) -> int:
    """FLOPs of the matrix products in the graph of function(*arguments)."""
    total = 0
    for op in tf.function(function, autograph=False).get_concrete_function(*arguments).graph.get_operations():
        assert op.type not in ("Einsum", "Conv2D", "While", "PartitionedCall"), op.name
        if op.type in ("MatMul", "BatchMatMulV2", "BatchMatMulV3"):
            turned = op.get_attr("transpose_a" if op.type == "MatMul" else "adj_x")
            total += 2 * prod(op.outputs[0].shape) * op.inputs[0].shape[-2 if turned else -1]
    return total

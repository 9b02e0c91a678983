"""``kaleidobert report``: what its page holds, what it names without showing it, its size; and the page in a real browser."""

import contextlib
import doctest
import io
import json
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from kaleidobert import cli, configs
from kaleidobert import io as files
from kaleidobert.app_zoo import commands
from kaleidobert.app_zoo.report import content, provenance, report, runs
from kaleidobert.datasets.bank.bank import describe
from kaleidobert.levels import KALEIDO
from tests.app_zoo.test_inspect_alignment import align
from tests.app_zoo.test_tables import captioning, classification, dual_encoder, interval
from tests.evaluators.test_claims import pretraining
from tests.support.tiny import tiny_bank

ROOT = Path(__file__).resolve().parents[2]
HOSTILE = '<script>alert("1")</script> & {{ 7 * 7 }}'


def model(trained: str, init: Path | None = None, head: str = "plain") -> dict:
    return {"head": head, "head_of": "the paper's" if head == "plain" else "ours", "trained": trained, "trained_in_this_run": trained,
            "init": init and str(init), "masking": "random"}


def config(name: str, **changes) -> dict:
    """The packaged configuration of a command, with changes to its first level and to its training."""
    made = configs.to_dict(commands.load(*{"pretrain": ("pretrain", "pretrain"), "i2t": ("retrieve", "i2t"), "t2i": ("retrieve", "t2i"),
                                           "cat": ("classify", "cat"), "subcat": ("classify", "subcat")}[name]))
    return made | {"run": "/somewhere"} | {"train": made["train"] | changes}


def picture(path: Path, size=(900, 500)) -> None:
    noise = np.random.default_rng(len(str(path))).integers(0, 255, (size[1] // 10, size[0] // 10, 3), np.uint8)
    Image.fromarray(noise).resize(size, Image.Resampling.NEAREST).save(path)


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    """Runs of every task over a bank with links, as the commands leave them; only read."""
    folder = tmp_path_factory.mktemp("report") / "runs"
    folder.mkdir()
    bank = tiny_bank(folder)
    align(SimpleNamespace(bank=bank, levels=KALEIDO), folder / "maps")
    facts, best = {**describe(bank)}, folder / "pretrain/best.npz"
    pointing = {name: {"sightings": interval(value)} for name, value in (("alignment", 0.4), ("chance", 0.1))}
    words = {"task": "align", "mode": "test", "metrics": {"average_precision": 0.5}, "model": model("word presence", head="word presence"),
             "baselines": {}, "parts": {"pointing": pointing}}
    others = {"nearest_neighbours_image": {"accuracy": 0.44}}
    made = {"align/test": words,
            "pretrain": pretraining() | {"config": config("pretrain", epochs=2.0), "model": model("pre-trained 2 epochs")},
            "cat": classification("category", 0.9, model=model("labels", best), config=config("cat", batch_size=8), baselines=others),
            "subcat": classification("subcategory", 0.8, model=model("labels", best), config=config("subcat"), baselines=others),
            "i2t": dual_encoder("i2t", 0.4, config=config("i2t"), differences={"ridge regression": {"rank@1": {
                "first": 0.4, "second": 0.2, "difference": 0.2, "low": 0.1, "high": 0.3}}}),
            "t2i": dual_encoder("t2i", 0.5), "caption": captioning("causal", "end piece", None) | {"model": model("captions", best)},
            "pages": {"task": "inspect", "pages": [{"image_id": bank.table[3]["image_id"]}]}}
    made["i2t"] |= {"model": made["i2t"]["model"] | {"init": str(best)}}
    for name in ("i2t", "t2i"):
        made[name]["baselines"]["subcategory_oracle"] = {f"rank@{k}": 0.24 for k in (1, 5, 10)}
    for name, values in made.items():
        values |= {} if name == "pages" else {"bank": facts, "checkpoint_sha256": f"{len(name):x}" * 64, "versions": {"kaleidobert": "9.9"}}
        files.write_json(folder / name / "results.json", values)
        files.write_text(folder / name / "config.yaml", "run: x\n")
    (folder / "maps").rename(folder / "align/maps")
    for path in (folder / "align/maps").iterdir():
        path.rename(folder / "align/test" / path.name)
    (folder / "align/maps").rmdir()
    for name in ("pretrain/losses.png", "cat/confusion.png", "i2t/ranks.png", "i2t/queries.png", "align/test/parts.png"):
        picture(folder / name)
    files.write_text(folder / "i2t/dual_encoder/config.yaml", "run: x\n")  # a part of a run, and no run of its own
    picture(folder / "i2t/dual_encoder/losses.png")
    files.write_csv(folder / "cat/predictions.csv", ["image_id", "label", "prediction"], [["a", "bags", "tops"], ["b", "bags", "bags"]])
    lines = [{"image_id": row["image_id"], "caption": f"written {HOSTILE}", "references": [row["text"]]} for row in bank.table]
    files.write_text(folder / "caption/captions.jsonl", "".join(json.dumps(line) + "\n" for line in lines))
    files.write_text(folder / "pages/index.html", "pages")
    files.write_json(folder / "cat/environment.json", {"versions": {"kaleidobert": "9.9"}, "code": {"commit": "abc" * 14, "changed": True},
                                                       "machine": {"processor": "P", "cores": 3},
                                                       "starts": [{"ended": "2026-01-01T00:00:00+00:00", "seconds": 90.0}] * 2})
    return folder


def call(*words: str) -> tuple[int, str, str]:
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        status = cli.main(["report", *words])
    return status, out.getvalue(), err.getvalue()


@pytest.fixture(scope="module")
def page(finished, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("page") / "report.html"
    status, said, err = call(str(finished), f"out={out}")
    assert status == 0 and not err and str(out) in said and "report card: does the data support" in said
    return out


def text_of(page: Path) -> str:
    """The page without its pictures."""
    return re.sub(r"data:image/webp;base64,[A-Za-z0-9+/=]+", "PICTURE", page.read_text(encoding="utf-8"))


def test_the_examples_of_the_docstrings():
    assert doctest.testmod(provenance).failed == doctest.testmod(content).failed == 0


def test_it_holds_what_the_runs_have(page):
    text = text_of(page)
    titles = re.findall(r"<h2[^>]*>(.*?)</h2>", text)
    assert titles == ["At a glance", "Report card", "Beside the paper", "Alignments", "Pre-training", "Labels", "Retrieval", "Captions",
                      "Configurations", "Lineage", "Environment and time"]
    assert set(re.findall(r'href="#(.*?)"', text)) <= set(re.findall(r'id="(.*?)"', text))
    assert text.count("PICTURE") == 6 + 9 + len(re.findall('class="tile"', text)) and 'class="tile"' in text  # charts, captions, alignments
    assert "Kaleido-BERT" in text and "68.59" in text  # the paper's rows
    assert "<td>bags</td><td>tops</td><td class=\"n\">1</td>" in text and "Loss by task and step, dual encoder" in text
    assert "40.0 <small>[30.0, 50.0]</small>" in text and "the model of i2t" in text


def test_nothing_is_fetched_and_nothing_unescaped(page):
    text = text_of(page)
    assert "<script" not in text and "http" not in text and "url(" not in text and "@import" not in text
    assert "written &lt;script&gt;alert(" in text and "{{ 7 * 7 }}" in text


def test_no_path_of_the_disk_is_told(page, finished):
    assert str(finished.parent) not in text_of(page)


def test_configurations_stand_side_by_side_as_a_difference(finished):
    found = runs.find([finished])
    made = {one.command: one for one in provenance.compare(found.runs)}
    assert {key: one.runs for key, one in made.items()} == {"pretrain": (("pretrain", "pretrain"),), "retrieve": (("i2t", "i2t"),),
                                                            "classify": (("cat", "cat"), ("subcat", "subcat"))}
    rows = {row.key: row.cells for row in made["classify"].rows}
    assert rows == {"train.batch_size": (("8", "64"), ("64", "64"))}  # the label is each file's own, and paths are left out
    assert [row.key for row in made["pretrain"].rows] == ["train.epochs"] and not made["retrieve"].rows


def test_lineage_and_time(page, finished):
    made = content.gather(runs.find([finished]), page.parent)
    later = {node.run.name: [one.run.name for one in node.later] for node in made.tree}
    assert later == {"align/test": [], "pretrain": ["cat", "subcat", "i2t", "caption"], "t2i": []}
    (bank,) = made.banks
    assert dict(bank.facts)["made of"] == "table catalogue/table.jsonl" and "links of words to patches" in dict(bank.facts)
    assert {one.run: one.code for one in made.origins}["cat"] == "9.9, commit abcabcabcabc with changes"
    times = {one.run: one for one in made.surroundings}
    assert times["cat"].took == "3 min" == made.total_time.replace("180 s", "3 min") and times["cat"].starts == 2
    assert times["pretrain"].took == "not recorded" and times["cat"].machine == "P; 3 cores"


def test_a_moved_folder_finds_its_bank_and_an_altered_bank_is_none(finished, tmp_path):
    for name in ("bank", "pretrain"):
        (tmp_path / name).symlink_to(finished / name)
    facts = files.read_json(finished / "pretrain/results.json")["bank"]
    from kaleidobert.app_zoo.report.provenance import find_bank

    assert find_bank(facts | {"folder": "/gone/bank"}, tmp_path) == tmp_path / "bank"
    assert find_bank(facts | {"sha256": "0"}, tmp_path) is None and find_bank({}, tmp_path) is None


def test_the_same_runs_give_the_same_page(finished, page, tmp_path):
    assert call(str(finished), str(finished / "cat"), f"out={tmp_path / 'again.html'}")[0] == 0
    again = (tmp_path / "again.html").read_text()
    assert again == page.read_text()


def test_what_is_unfinished_or_damaged_is_named_in_a_line(finished, tmp_path):
    folder = tmp_path / "runs"
    good = files.read_json(finished / "cat/results.json")
    files.write_json(folder / "good/results.json", good)
    (folder / "good/losses.png").write_bytes(b"\x89PNG\r\n\x1a\n, cut off")
    (folder / "good/predictions.csv").write_bytes(b"\xff\xfe")
    (folder / "good/environment.json").write_text("{")
    for name, text in {"cut": "{", "list": "[]", "missing": json.dumps(good | {"metrics": {}}), "odd": json.dumps(good | {"metrics": "x"}),
                       "earlier": json.dumps(good | {"baselines": {"nearest_neighbours_image": 0.4}}),
                       "bad-figures": json.dumps({"task": "own", "figures": [1]})}.items():
        files.write_text(folder / name / "results.json", text)
    files.write_text(folder / "begun/config.yaml", "run: x\n")
    files.write_text(folder / "begun/metrics.jsonl", '{"step": 12, "split": "train"}\n{"st')
    (folder / "caption").mkdir()
    status, out, err = call(str(folder))
    assert status == 0 and not err, err
    lines = [line.removeprefix("note: ") for line in out.splitlines() if line.startswith("note: ")]
    assert sorted(line.partition(" (")[0] for line in lines) == [
        "bad-figures: damaged", "begun: not finished, at step 12", "cut: damaged", "earlier: not on the report card", "list: damaged",
        "missing: not in the tables", "odd: not in the tables"]
    text = text_of(folder / "report.html")
    assert all(line.partition(" (")[0] in text for line in lines) and "good/losses.png: damaged" in text and 'id="missing"' in text


@pytest.mark.parametrize("words, message", [
    ([], "no run is named"), (["{folder}/nowhere"], "there is no such folder"),
    (["{folder}/empty"], "no run below this folder has finished"),
    (["{folder}/cut"], "no run below this folder has finished (cut: damaged"), (["{runs}", "max_megabytes=0"], "max_megabytes is 0"),
    (["{runs}", "outt=x"], "did you mean 'out'"), (["{runs}", "out={folder}/cut/results.json/x.html"], "cannot write here")])
def test_what_cannot_be_is_refused_in_one_message(finished, tmp_path, words, message):
    (tmp_path / "empty").mkdir()
    files.write_text(tmp_path / "cut/results.json", "{")
    status, out, err = call(*(word.format(folder=tmp_path, runs=finished) for word in words))
    assert status == 2 and message in err and len(err.strip().splitlines()) == 1, err
    assert not list(tmp_path.rglob("*.html"))


def test_a_dry_run_names_the_runs_and_writes_nothing(finished, tmp_path):
    status, out, _ = call(str(finished), f"out={tmp_path / 'x'}", "--dry-run")
    assert status == 0 and "8 runs: align/test, pretrain, cat, subcat" in out and f"{tmp_path / 'x/report.html'}" in out
    assert not list(tmp_path.iterdir())


def test_one_run_alone_has_no_empty_sections(finished, tmp_path):
    status, out, _ = call(str(finished / "cat"), f"out={tmp_path}")
    text = text_of(tmp_path / "report.html")
    assert status == 0 and "<title>Report: cat</title>" in text
    assert re.findall(r"<h2[^>]*>(.*?)</h2>", text) == ["At a glance", "Beside the paper", "Labels", "Configurations", "Lineage",
                                                        "Environment and time"]


def test_a_page_keeps_within_its_size(tmp_path):
    pictures = []
    for number in range(3):
        noise = np.random.default_rng(number).integers(0, 255, (90, 1800 // (number + 1), 3), np.uint8)
        pictures.append(Image.fromarray(noise))
    whole, none = report.embed(pictures, 1e9)
    assert not none and [one.width for one in whole.values()] == [1600, 900, 600] and whole[0].original == 1800
    size = sum(len(one.address) for one in whole.values())
    smaller, none = report.embed(pictures, size * 0.6)
    assert not none and sum(len(one.address) for one in smaller.values()) <= size * 0.6 and smaller[0].width < 1600
    few, lines = report.embed([*pictures, tmp_path / "gone.png"], size / 20)
    assert sum(len(one.address) for one in few.values()) <= size / 20 and len(few) + len(lines) == 4
    assert any("left out" in line for line in lines) and any("gone.png: damaged" in line for line in lines)


@pytest.mark.slow
def test_no_network_library_is_loaded(finished, tmp_path):
    code = ("import sys; from kaleidobert import cli; status = cli.main(sys.argv[1:]); "
            "sys.exit(status or any(name in sys.modules for name in ('keras', 'tensorflow', 'jax')))")
    words = [sys.executable, "-c", code, "report", str(finished), f"out={tmp_path}"]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("width", [1400, 390])
@pytest.mark.parametrize("dark", [False, True])
def test_the_page_in_a_browser(browser, page, width, dark):
    with browser.open(page, width=width, dark=dark, phone=width < 500) as opened:
        opened.check()
        assert opened.page.title() == "Report: runs"
        ink, ground = opened.page.evaluate("[getComputedStyle(document.body).color, getComputedStyle(document.body).backgroundColor]")
        assert (_light(ink) > _light(ground)) == dark
        opened.page.click("nav a[href='#lineage']")
        assert opened.page.evaluate("Math.abs(document.querySelector('#lineage').getBoundingClientRect().top) < innerHeight")


def _light(colour: str) -> int:
    return sum(map(int, re.findall(r"\d+", colour)[:3]))


def test_on_paper_it_is_light_and_nothing_is_cut_off(browser, page):
    with browser.open(page, width=720, dark=True) as opened:
        opened.page.emulate_media(media="print")
        assert opened.page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
        assert opened.page.evaluate("getComputedStyle(document.querySelector('nav')).display") == "none"
        assert opened.page.pdf(format="A4").startswith(b"%PDF")


def test_the_name_of_the_page():
    for words, expected in ((configs.ReportConfig((Path("a"), Path("b"))), Path("a/report.html")),
                            (configs.ReportConfig((Path("a"),), Path("x/y.html")), Path("x/y.html")),
                            (configs.ReportConfig((Path("a"),), Path("x/y")), Path("x/y/report.html"))):
        assert report._out(words) == expected

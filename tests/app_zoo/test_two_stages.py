"""``retrieve protocol=full rerank=k``: ranks in the whole gallery by vectors and network, and the recall ceiling of k."""

from dataclasses import replace

import numpy as np
import pytest

from kaleidobert import configs
from kaleidobert.app_zoo.retrieve import two_stages
from kaleidobert.app_zoo.retrieve.two_stages import FirstStage
from kaleidobert.evaluators import candidates, retrieval
from tests.app_zoo.test_search import contents
from tests.support.apps_data import TRAIN, refused, results
from tests.support.apps_data import World as Apps
from tests.support.apps_data import call as run_command
from tests.support.search_data import World
from tests.support.tables import TWO

pytestmark = pytest.mark.eager


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> Apps:
    """A bank, and the checkpoint of a matcher with vectors."""
    with pytest.MonkeyPatch.context() as patch:
        from tests.support.quick import run_eagerly

        run_eagerly(patch)
        made = World(tmp_path_factory.mktemp("stages"))
    return Apps(made.folder, TWO, made.bank)


def config(world: Apps, run: str, **changes) -> configs.RetrieveConfig:
    options = {"init": world.folder / "best.npz", "matching": configs.Matching("dual_encoder", width=8), "protocol": "full",
               "train": replace(TRAIN, epochs=0), "plain": False} | changes
    return replace(world.retrieve(run), model=configs.Model(), **options)


@pytest.mark.parametrize("direction", ["i2t", "t2i"])
def test_with_k_as_large_as_the_gallery_it_is_the_network_over_all_pairs(world, direction):
    for run, rerank in (("whole", 0), ("stages", 99)):
        done = run_command("retrieve", config(world, f"{run}-{direction}", direction=direction, rerank=rerank))
        assert done.status == 0, done.err
    whole, stages = (results(world.folder / f"{run}-{direction}") for run in ("whole", "stages"))
    for name, metric in whole["metrics"].items():
        if isinstance(metric, dict) and "value" in metric:
            assert stages["metrics"][name]["value"] == pytest.approx(metric["value"]), name
    assert stages["two_stages"]["stage_one"] == "the matcher's dual encoder and contrast"
    assert stages["parts"].keys() == {"stage one alone"} and "two_stages" not in whole
    assert stages["two_stages"]["recall"][str(stages["two_stages"]["rerank"])] == 1
    assert "stage one: the matcher's dual encoder and contrast; the right one is among its first " in done.out
    assert "by two stages" in (world.folder / f"stages-{direction}/table.md").read_text()


def test_few_candidates_bound_the_ranks_and_a_second_run_gives_the_same(world):
    done = run_command("retrieve", config(world, "few", rerank=2, baselines=True))
    assert done.status == 0 and "of " in done.out and "the first 2 of every query" in done.out, done.err
    few = results(world.folder / "few")
    ceiling = few["two_stages"]["recall"]["2"]
    assert few["metrics"]["rank@1"]["value"] <= ceiling < 1
    assert few["parts"]["stage one alone"]["rank@10"]["value"] == pytest.approx(few["metrics"]["rank@10"]["value"])  # the others stay
    assert few["differences"]["stage one alone"]["rank@1"]["second"] == few["parts"]["stage one alone"]["rank@1"]["value"]
    assert "not measured: plain is false" in done.out and few["baselines"]["ridge"]["rank@1"] >= 0
    before = contents(world.folder / "few")["scores.jsonl"]
    assert run_command("retrieve", config(world, "few", rerank=2, baselines=True)).status == 0
    assert contents(world.folder / "few")["scores.jsonl"] == before


def test_settings(world):
    for flags in ([], ["--dry-run"]):
        refused(run_command("retrieve", config(world, "no", rerank=5, protocol="kaleido"), *flags), "rerank is 5, of lists that are drawn")
        refused(run_command("retrieve", config(world, "no", rerank=-1), *flags), "rerank is -1; expected: at least 0")
    done = run_command("retrieve", config(world, "dry", rerank=4), "--dry-run")
    assert done.status == 0 and "the network scores the first 4 of every query" in done.out


# --- how ranks are counted


def gallery(products: int) -> tuple[candidates.Gallery, candidates.Records]:
    ids = [f"p{number:02d}-{view}" for number in range(products) for view in ("a", "b")]
    names = [name[:3] for name in ids]
    records = candidates.Records(ids, names, names, [""] * len(ids), [f"text {name}" for name in names])
    lists = candidates.build(records, "t2i", 0, protocol=candidates.PROTOCOLS["full"])
    assert isinstance(lists, candidates.Gallery)
    return lists, records


def test_ranks_are_those_of_sorting_by_hand():
    lists, records = gallery(9)
    rng = np.random.Generator(np.random.Philox(3))
    stage = FirstStage(rng.standard_normal((18, 6)).astype(np.float32), rng.standard_normal((18, 6)).astype(np.float32), "random")
    short = stage.nearest(lists, 5, records.ids)
    scores = rng.standard_normal(short.candidates.shape).astype(np.float32)
    tallies, ceilings = two_stages.count(stage, lists, short, scores)
    for number, query in enumerate(lists.queries):
        first = {row: float(stage.texts[query] @ stage.pictures[row]) for row in lists.gallery}
        order = sorted(first, key=lambda row: -first[row])
        assert short.candidates[number].tolist() == order[:5]
        second = dict(zip(short.candidates[number], scores[number]))
        whole = sorted(second, key=lambda row: -second[row]) + order[5:]
        right = [records.products[row] == records.products[query] for row in whole]
        assert tallies["itm"].ranks()[number] == right.index(True) + 1
        assert tallies["first"].ranks()[number] == [records.products[row] == records.products[query] for row in order].index(True) + 1
    assert ceilings["5"] == np.mean(tallies["first"].ranks() <= 5) and set(ceilings) == {"5", "10"}
    assert ceilings["5"] == np.mean(short.relevant.any(1))


def test_equal_scores_behind_the_first_stay_equal():
    table = two_stages.join(np.array([[1.0, 5, 1, 1]], np.float32), np.array([[1]]), np.array([[-9.0]], np.float32))
    assert table.tolist() == [[-10.0, -9.0, -10.0, -10.0]]
    assert retrieval.rank_statistics(table, np.array([[True, False, False, False]])).ranks().tolist() == [3.0]

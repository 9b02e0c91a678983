"""Pictures cut ahead by threads, and what worker processes get of the machine."""

import threading
import time
from concurrent.futures import Future
from dataclasses import replace
from multiprocessing import get_context
from types import SimpleNamespace

import numpy as np
import pytest

from kaleidobert import configs
from kaleidobert.datasets.bank import builder, states
from kaleidobert.datasets.bank.changes import ShardPlan
from kaleidobert.datasets.sources import reading
from kaleidobert.errors import UserError
from kaleidobert.preprocessors import encoders
from tests.datasets.test_builder import content
from tests.support.apps_data import World, call
from tests.support.tables import TWO
from tests.support.tiny import tiny_catalogue


@pytest.fixture
def fresh(tmp_path) -> World:
    tiny_catalogue(tmp_path / "catalogue", 16)
    return World(tmp_path, TWO)


def read(product, load):
    """The product with a picture that load(number) makes, its number the place in the catalogue."""
    number = int(product.product_id[1:])

    def image() -> np.ndarray:
        return load(number)

    return replace(product, load_image=image)


# --- cutting ahead ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("threads", [0, 1, 4])
def test_pictures_come_in_order_and_faults_in_their_places(fresh, threads):
    config = fresh.records(threads=threads, foreground=configs.Foreground("none"))
    whole = [product for product in reading.read(fresh.source)[0] if product.view == "front"]

    def load(number: int) -> np.ndarray:
        time.sleep(0.02 * (number % 3 == 0))  # the later ones are ready first
        if number == 5:
            raise UserError("broken", "here")
        return np.full((8 + number, 9, 3), number, np.uint8)

    found = list(builder.cut_ahead([read(product, load) for product in whole], config, None))
    assert len(found) == 16 and str(found[5]) == "here: broken"
    for number, cut in enumerate(found):
        assert number == 5 or (cut.views[0] == number).all() and cut.box == (0, 0, 9, 8 + number)


def test_no_more_pictures_are_cut_ahead_than_fit_together(fresh):
    config = fresh.records(threads=2, encoder=configs.Encoder("pixels", 4, batch_size=3), foreground=configs.Foreground("none"))
    products, started, lock = [p for p in reading.read(fresh.source)[0] if p.view == "front"], [], threading.Lock()

    def load(number: int) -> np.ndarray:
        with lock:
            started.append(number)
        return np.zeros((9, 9, 3), np.uint8)

    cuts = builder.cut_ahead([read(product, load) for product in products], config, None)
    for taken in range(1, 8):
        next(cuts)
        time.sleep(0.01)
        assert len(started) <= taken + 3  # those taken, and batch_size more
    cuts.close()  # as where the encoder fails: nothing is begun any more
    assert len(started) <= 10 and not [thread for thread in threading.enumerate() if thread.name.startswith("cut")]


def test_an_error_that_is_no_picture_s_fault_is_raised(fresh):
    config = fresh.records(threads=2, foreground=configs.Foreground("none"))

    def load(number: int) -> np.ndarray:
        raise MemoryError("all of it")

    with pytest.raises(MemoryError, match="all of it"):
        list(builder.cut_ahead([read(product, load) for product in reading.read(fresh.source)[0]], config, None))


def test_any_number_of_threads_makes_the_same_bank(fresh):
    for threads in (1, 3):
        made = fresh.records(f"t{threads}", shard_size=6, threads=threads, foreground=configs.Foreground("network"))
        assert call("records", made).status == 0
    assert content(fresh.folder / "t1") == content(fresh.folder / "t3")


# --- processes ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value, names", [("0,2", ["0", "2"]), (" GPU-a , MIG-b ", ["GPU-a", "MIG-b"]), ("-1", []), ("", []),
                                          ("1,-1,2", ["1"])])
def test_gpus_are_those_that_the_environment_leaves(value, names):
    assert builder.gpus({"CUDA_VISIBLE_DEVICES": value}) == names


@pytest.mark.parametrize("text, names", [
    ("", []), ("No devices were found\n", []),
    ("GPU 0: NVIDIA H200 (UUID: GPU-1f)\nGPU 1: NVIDIA H200 (UUID: GPU-2e)\n", ["GPU-1f", "GPU-2e"]),
    ("GPU 0: A (UUID: GPU-1)\n  MIG 1g.18gb     Device  0: (UUID: MIG-x)\n  MIG 1g.18gb     Device  1: (UUID: MIG-y)\nGPU 1: A "
     "(UUID: GPU-2)\n", ["MIG-x", "MIG-y", "GPU-2"])])
def test_gpus_are_those_that_the_driver_lists(monkeypatch, tmp_path, text, names):
    (tmp_path / "nvidia-smi").write_text(f"#!/bin/sh\nprintf '%s' '{text}'\n")
    (tmp_path / "nvidia-smi").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    assert builder.gpus({}) == builder.listed(text) == names
    monkeypatch.setenv("PATH", "/nowhere")
    assert builder.gpus({}) == []


def test_processes_share_cores_and_take_gpus_in_turn():
    shares = builder.environments(5, ["0", "3"], 16)
    assert [share["CUDA_VISIBLE_DEVICES"] for share in shares] == ["0", "3", "0", "3", "0"]
    assert {(share["TF_NUM_INTRAOP_THREADS"], share["OMP_NUM_THREADS"]) for share in shares} == {("1", "3")}
    assert all("TF_FORCE_GPU_ALLOW_GROWTH" in s for s in shares)
    alone = builder.environments(3, [], 2)
    assert [share["OMP_NUM_THREADS"] for share in alone] == ["1"] * 3 and not any("CUDA_VISIBLE_DEVICES" in share for share in alone)


@pytest.mark.parametrize("encoder, workers, seen", [("mobilenet_v2", 0, ["4", "7"]), ("mobilenet_v2", 3, ["4", "4", "7"]),
                                                    ("mobilenet_v2", 1, ["4,7"]), ("pixels", 0, None)])
def test_every_process_sees_a_gpu_of_its_own(fresh, monkeypatch, encoder, workers, seen):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,7")
    monkeypatch.setattr(builder.os, "cpu_count", lambda: 3)
    config = fresh.records(shard_size=6, workers=workers, encoder=configs.Encoder(encoder, 32))
    products, _ = reading.read(fresh.source)
    monkeypatch.setattr(builder, "ProcessPoolExecutor", Pool)
    monkeypatch.setattr(builder, "build_shard", lambda config, number, part, *_: Pool.asked.append(config.threads) or len(part))
    Pool.shares, Pool.asked = [], []
    assert sum(builder.build_shards(config, products, None)) == 22
    if workers == 1:
        assert Pool.shares == [] and set(Pool.asked) == {3}  # in this process, all cores
    else:
        expected = seen or ["4", "4", "7"]
        assert sorted(share["CUDA_VISIBLE_DEVICES"] for share in Pool.shares) == expected
        assert set(Pool.asked) == {3 // len(expected)}


class Pool:
    """In place of processes: notes what each would have got, and works here."""

    shares: list[dict] = []
    asked: list[int] = []

    def __init__(self, workers, context, initializer, arguments):
        assert initializer is builder.take_environment
        Pool.shares.extend(arguments[0].get() for _ in range(workers))
        assert arguments[0].empty()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        return None

    def submit(self, function, *arguments):
        future = Future()
        future.set_result(function(*arguments))
        return future

    def shutdown(self, cancel_futures):
        assert cancel_futures


def test_a_process_takes_its_share(monkeypatch):
    for name in ("CUDA_VISIBLE_DEVICES", "OMP_NUM_THREADS"):
        monkeypatch.setenv(name, "before")
    shares = get_context("spawn").SimpleQueue()
    shares.put({"CUDA_VISIBLE_DEVICES": "GPU-3", "OMP_NUM_THREADS": "2"})
    builder.take_environment(shares)
    assert [builder.os.environ[name] for name in ("CUDA_VISIBLE_DEVICES", "OMP_NUM_THREADS")] == ["GPU-3", "2"]


@pytest.mark.parametrize("what", ["another plan", "the parent is gone", "nothing"])
def test_a_worker_whose_run_has_ended_writes_nothing(fresh, monkeypatch, what):
    """It outlives a parent that is killed, and the next run may make another bank by then."""
    config = fresh.records(shard_size=6, foreground=configs.Foreground("none"), encoder=configs.Encoder("pixels", 8))
    products, _ = reading.read(fresh.source)
    mark, alive = builder.claim(config, products), [True]
    monkeypatch.setattr(builder, "parent_process", lambda: SimpleNamespace(is_alive=lambda: alive[0]))
    monkeypatch.setattr(builder, "_ENCODERS", {})

    def build(own):
        made = encoders.build(own)

        def encode(patches):  # meanwhile
            alive[0] = what != "the parent is gone"
            if what == "another plan":
                builder.refresh(config, builder.compare(config, products[1:]), builder.fingerprint(config, products[1:]))
            return made.encode(patches)

        return replace(made, encode=encode)

    def make() -> int:
        return builder.build_shard(config, ShardPlan(0), products[:6], build, None, mark)

    if what == "nothing":
        assert make() == 6 and states.is_noted(config.bank, 0)
        return
    for _ in range(2):  # and the next one is not even begun
        with pytest.raises(UserError, match="a run that has ended"):
            make()
    assert not states.is_noted(config.bank, 0) and not states.features_path(config.bank, 0).exists()

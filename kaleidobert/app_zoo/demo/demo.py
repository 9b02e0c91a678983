"""``kaleidobert demo``: a web page on this machine that asks the runs of one folder about words, products and uploaded pictures."""

import importlib
import importlib.util
import os
import shutil
import signal
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

from kaleidobert import configs, io
from kaleidobert.app_zoo import commands, product_model, quickstart
from kaleidobert.app_zoo.demo.studio import Studio
from kaleidobert.app_zoo.inspect.inspect import Inspector
from kaleidobert.app_zoo.product_model import ProductModel
from kaleidobert.app_zoo.search import index
from kaleidobert.app_zoo.search.searcher import Searcher
from kaleidobert.configs import InspectConfig, loader
from kaleidobert.configs.search import DemoConfig, IndexConfig, IndexData
from kaleidobert.errors import UserError
from kaleidobert.model_zoo.kaleidobert import Matcher, Pretrainer

LOOPBACK = ("127.0.0.1", "localhost", "::1")
# gradio asks no server outside, and puts uploads and thumbnails into a folder that is deleted with this process
GRADIO = {"GRADIO_ANALYTICS_ENABLED": "False", "HF_HUB_OFFLINE": "1"}
ROOM = "GRADIO_TEMP_DIR"


def dry_run(config: DemoConfig) -> None:
    """Checks that the runs are there and fit one another; prints which run answers what."""
    _check_gradio()
    print(repr(product_model.load(folder_of(config), bank=config.bank)))


def run(config: DemoConfig) -> None:
    """Serves the page until it is interrupted."""
    _check_gradio()
    with _room():
        studio = open_studio(config)
        print("trying every head once ...", flush=True)
        try:
            studio.warm_up()
        except UserError as error:  # such as a picture that has gone
            print(f"note: {error}")
        page = importlib.import_module(f"{__package__}.page")  # gradio is an extra, and reads the environment when it is loaded
        blocks = page.build(studio, config, f"{folder_of(config)}: {len(studio.bank.table):,} pictures")
        address = page.launch(blocks, config)
        others = "" if config.host in LOOPBACK else ": everyone who reaches this machine can use it"
        try:
            _wait(f"the demo is at {address}{others}\n  Ctrl-C ends it; uploaded pictures are not kept")
        finally:
            blocks.close(verbose=False)


def folder_of(config: DemoConfig) -> Path:
    """Returns the folder of runs. Raises UserError where the quickstart's is meant and it has not run."""
    if config.run is not None:
        return config.run
    folder = loader.packaged_start() / quickstart.FOLDER
    if not folder.is_dir():
        raise UserError("the quickstart has no results yet", str(folder), "a folder of finished runs",
                        "run `kaleidobert quickstart` first, or name another folder: kaleidobert demo run=RUNS")
    return folder


def open_studio(config: DemoConfig) -> Studio:
    """Opens runs, index and pages; makes the index where there is none. Where pages cannot be shown, all else still works."""
    folder = folder_of(config)
    model = product_model.load(folder, bank=config.bank)
    inspector, why = None, ""
    try:
        inspector = Inspector(pages_of(folder, model))
    except UserError as error:
        why = str(error)
        print(f"products are not shown: {why}")
    return Studio(model, _searcher(config, model), inspector, why)


def _searcher(config: DemoConfig, model: ProductModel) -> Searcher:
    if config.index is None:
        return model.searcher
    if not io.contents(config.index):
        matcher = next((model.runs[kind] for kind in (Matcher.kind, Pretrainer.kind) if kind in model.runs), None)
        index.run(IndexConfig(index=config.index, data=IndexData(model.bank.folder), init=matcher.checkpoint if matcher else None))
    return Searcher(config.index, model.bank.folder)


def pages_of(folder: Path, model: ProductModel) -> InspectConfig:
    """Returns how products are shown: as by a finished `inspect` run below the folder, with its maps of words and true masks; else with the
    predictions of the pre-trained model alone, where there is one."""
    bank = model.bank.folder
    for results in sorted(folder.rglob("results.json")):
        path = results.with_name("config.yaml")
        if results.with_name("index.html").is_file() and path.is_file():
            own = commands.load("inspect", path)
            if own.data.bank.resolve() == bank.resolve():
                return own
    pretrained = model.runs.get(Pretrainer.kind)
    checkpoint = pretrained.checkpoint if pretrained else None
    return InspectConfig(folder, configs.Data(bank=bank), checkpoint, (model.bank.table[0]["image_id"],))


def _check_gradio() -> None:
    if importlib.util.find_spec("gradio") is None:
        raise UserError("the demo needs the package gradio, which is not installed", fix="pip install 'kaleidobert[demo]', or in the "
                        "repository: pip install -e '.[demo]'")


@contextmanager
def _room() -> Iterator[None]:
    """Keeps gradio's files in a folder of their own, which is deleted at the end."""
    folder = tempfile.mkdtemp(prefix="kaleidobert-demo-")
    before = {name: os.environ.get(name) for name in (*GRADIO, ROOM)}
    os.environ.update(GRADIO | {ROOM: folder})
    try:
        yield
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _wait(line: str) -> None:
    """Prints a line and waits for Ctrl-C or SIGTERM."""
    ended = threading.Event()

    def end(number: int, frame: FrameType | None) -> Any:
        ended.set()

    before = {number: signal.signal(number, end) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        print(line, flush=True)
        ended.wait()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)

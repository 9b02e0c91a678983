"""The page of the demo, made of gradio's components: three tabs that ask a Studio. Uploaded pictures stay in their session's memory."""

import base64
import functools
import io
from collections.abc import Callable, Sequence
from html import escape
from typing import Any, ParamSpec, TypeVar

import gradio as gr
import numpy as np
from PIL import Image

from kaleidobert.app_zoo.demo.studio import Answer, Studio, as_jpeg, read_upload
from kaleidobert.app_zoo.search.searcher import Answer as Found
from kaleidobert.app_zoo.search.searcher import Hit
from kaleidobert.configs.search import DemoConfig
from kaleidobert.errors import UserError

SYSTEM_FONTS = ["system-ui", "Segoe UI", "Roboto", "sans-serif"]  # gradio's own are fetched from elsewhere
CSS = """
.preview img { max-height: 260px; max-width: 100%; border-radius: 8px }
.hits { overflow-x: auto } .hits table { border-collapse: collapse; width: 100%; font-size: .9rem; border: 0 !important }
.hits :is(th, td) { text-align: left; padding: .3rem .7rem .3rem 0 !important; border: 0 !important; vertical-align: top }
.hits tr { border: 0 !important; border-bottom: 1px solid var(--border-color-primary) !important }
.hits .n { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap }
.hits .bar { height: .6rem; margin-top: .4rem; border-radius: 4px; background: var(--color-accent) } .hits .wide { width: 40% }
.products .grid-wrap { max-height: none !important; min-height: 0 !important; height: auto !important }
.products .grid-container { grid-template-columns: repeat(auto-fill, minmax(105px, 1fr)) !important }
@media (max-width: 560px) { .hits .labels { display: none } }
.product iframe { width: 100%; height: 85vh; border: 1px solid var(--border-color-primary); border-radius: 8px; background: #fff }
"""
ANSWERS = "answers"  # events of this name share one limit of answers that are computed at the same time
P = ParamSpec("P")
R = TypeVar("R")
Matches = Sequence[tuple[str, str, float | None]]  # (which text, its words, the probability that it belongs to the picture)


def build(studio: Studio, config: DemoConfig, title: str) -> gr.Blocks:
    """Returns the page, not yet launched."""
    with gr.Blocks(title="Kaleido-BERT", analytics_enabled=False, delete_cache=(60, 600)) as blocks:
        gr.Markdown(f"# Kaleido-BERT\n{title}")
        with gr.Tabs() as tabs:
            with gr.Tab("Search", id="search"):
                gallery, ids = _search_tab(studio, config)
            with gr.Tab("Product", id="product"):
                name, show, shown = _product_tab(studio)
            with gr.Tab("Your picture", id="picture"):
                _picture_tab(studio, config)

        def choose(found: list[str], event: gr.SelectData) -> tuple[Any, str]:
            return gr.Tabs(selected="product"), found[event.index]

        gallery.select(choose, [ids], [tabs, name]).then(show, [name], shown, concurrency_id=ANSWERS)
    return blocks


def launch(blocks: gr.Blocks, config: DemoConfig) -> str:
    """Serves the page in threads of their own; returns its address. Raises UserError where host or port cannot be had."""
    blocks.queue(max_size=config.queue, default_concurrency_limit=config.at_once)
    try:
        _, address, _ = blocks.launch(
            server_name=config.host, server_port=config.port or None, prevent_thread_lock=True, quiet=True, share=False, ssr_mode=False,
            inbrowser=config.open_browser, max_file_size=int(config.max_megabytes * 1e6), show_error=True, footer_links=[],
            enable_monitoring=False, theme=gr.themes.Default(font=SYSTEM_FONTS, font_mono=["ui-monospace", "monospace"]), css=CSS)
    except OSError as error:
        raise UserError(f"it cannot listen there ({error})", f"{config.host}:{config.port or '7860 to 7959'}",
                        "an address of this machine and a free port", "choose another with host=... or port=...") from None
    return str(address)


def answered(ask: Callable[P, R]) -> Callable[P, R]:
    """Shows the message of a UserError on the page."""
    @functools.wraps(ask)
    def wrapped(*arguments: P.args, **named: P.kwargs) -> R:
        try:
            return ask(*arguments, **named)
        except UserError as error:
            raise gr.Error(escape(str(error)), duration=None, title="This cannot be answered", print_exception=False) from None

    return wrapped


def _search_tab(studio: Studio, config: DemoConfig) -> tuple[gr.Gallery, gr.State]:
    """Builds the tab; returns the pictures that a search finds, and their ids."""
    with gr.Row():
        with gr.Column(scale=2, min_width=280):
            text = gr.Textbox(label="Words", placeholder="red striped t-shirt", max_length=500, lines=1)
            picture = _picture_input(config, "search_picture")
            with gr.Accordion("Only products with", open=False, visible=bool(studio.choices)):
                filters = [gr.Dropdown(values, label=name, multiselect=True) for name, values in studio.choices.items()]
            with gr.Row():
                go, clear = gr.Button("Search", variant="primary"), gr.Button("Clear")
        with gr.Column(scale=5, min_width=280):
            gallery = gr.Gallery(label="Products", columns=5, object_fit="contain", allow_preview=False, height="auto",
                                 buttons=[], interactive=False, elem_classes="products")
            table = gr.HTML(elem_classes="hits")
    ids = gr.State([])

    @answered
    def search(words: str, jpeg: bytes | None, *chosen: list[str]) -> tuple[list[Any], list[str], str]:
        wanted = dict(zip(studio.choices, chosen))
        answer = studio.search(words or "", _pixels(jpeg), wanted, config.top, config.rerank)
        return _pictures(studio, answer.hits), [hit.image_id for hit in answer.hits], hits_table(answer)

    found = [gallery, ids, table]
    gr.on([go.click, text.submit], search, [text, picture, *filters], found, api_name="search", concurrency_id=ANSWERS)
    blank: list[Any] = [*[None] * len(filters)]
    clear.click(lambda: ("", None, *blank, [], [], ""), None, [text, picture, *filters, *found])
    return gallery, ids


def _product_tab(studio: Studio) -> tuple[gr.Textbox, Callable[..., Any], list[Any]]:
    """Builds the tab; returns the box of a product's id, the function that shows a product, and the components that it fills."""
    with gr.Row():
        name = gr.Textbox(label="Id of a product", max_length=300, scale=4)
        with gr.Column(scale=1, min_width=140):
            go, another = gr.Button("Show", variant="primary"), gr.Button("Another one")
    said = gr.HTML()
    page = gr.HTML(elem_classes="product")
    number = gr.State(0)

    @answered
    def show(image_id: str) -> tuple[str, str]:
        view = studio.product(image_id or "")
        match = [("its own text", view.text, view.answer.match), ("the text of another product", view.other, view.other_match)]
        framed = f'<iframe sandbox title="the product as the model sees it" srcdoc="{escape(view.html)}"></iframe>'
        return answers(view.answer, match), framed

    gr.on([go.click, name.submit], show, [name], [said, page], api_name="product", concurrency_id=ANSWERS)
    another.click(lambda count: (count + 1, studio.any_product(count)), [number], [number, name]).then(
        show, [name], [said, page], concurrency_id=ANSWERS)
    return name, show, [said, page]


def _picture_tab(studio: Studio, config: DemoConfig) -> None:
    with gr.Row():
        with gr.Column(scale=2, min_width=280):
            picture = _picture_input(config, "picture")
            text = gr.Textbox(label="Its text, where you have one: does it belong to the picture?", max_length=2000, lines=2)
            with gr.Row():
                go, clear = gr.Button("What is it?", variant="primary"), gr.Button("Clear")
        with gr.Column(scale=4, min_width=280):
            said = gr.HTML()
            gallery = gr.Gallery(label="Similar products", columns=5, object_fit="contain", allow_preview=False, height="auto", buttons=[],
                                 interactive=False, elem_classes="products")

    @answered
    def look(jpeg: bytes | None, words: str) -> tuple[str, list[Any]]:
        pixels = _pixels(jpeg)
        if pixels is None:
            raise UserError("there is no picture", "your picture", "one that you choose or drop on the left")
        answer = studio.look_at(pixels, words or "")
        hits = studio.search("", pixels, {}, min(10, config.top), config.rerank).hits
        match = [("your text", words, answer.match)] if answer.match is not None else []
        return answers(answer, match), _pictures(studio, hits)

    go.click(look, [picture, text], [said, gallery], api_name="look", concurrency_id=ANSWERS)
    clear.click(lambda: (None, "", "", []), None, [picture, text, said, gallery])


def _picture_input(config: DemoConfig, name: str) -> gr.State:
    """Returns the state that holds an uploaded picture as JPEG, None without one; its file is deleted as soon as it is read.

    name: by which a program uploads one.
    """
    upload = gr.File(label=f"A picture, at most {config.max_megabytes:g} MB", file_types=["image"], type="filepath", height=150)
    preview = gr.HTML(elem_classes="preview")
    picture = gr.State(None, time_to_live=3600)

    @answered
    def receive(path: str | None) -> tuple[None, bytes | None]:
        return None, None if path is None else as_jpeg(read_upload(path, config.max_megabytes))

    upload.upload(receive, [upload], [upload, picture], api_name=name)
    picture.change(lambda jpeg: _preview(jpeg), [picture], [preview])
    return picture


def hits_table(answer: Found) -> str:
    """Returns the products of a search as an HTML table, with the scores of both stages."""
    notes = "".join(f"<p>{escape(note)}</p>" for note in answer.notes)
    if not answer.hits:
        return notes or "<p>Nothing fits.</p>"
    rows = "".join(
        f'<tr><td class="n">{number}</td><td>{escape(hit.image_id)}</td><td>{escape(hit.text)}</td>'
        f'<td class="labels">{escape(", ".join(value for value in hit.labels.values() if value))}</td>'
        f'<td class="n">{hit.first_score:.3f}</td><td class="n">{f"{hit.score:.3f}" if answer.reranked else ""}</td></tr>'
        for number, hit in enumerate(answer.hits, 1))
    return (f'{notes}<table><tr><th class="n">#</th><th>product</th><th>text</th><th class="labels">labels</th><th class="n">stage one</th>'
            f'<th class="n">re-ranked</th></tr>{rows}</table>')


def answers(answer: Answer, match: Matches) -> str:
    """Returns what the heads say, as HTML."""
    parts = []
    for name, classes in answer.labels.items():
        rows = "".join(f'<tr><td>{escape(one)}</td><td class="n">{value:.1%}</td>'
                       f'<td class="wide"><div class="bar" style="width:{100 * value:.1f}%"></div></td></tr>'
                       for one, value in classes.items())
        parts.append(f"<h3>{escape(name)}</h3><table>{rows}</table>")
    parts += [f"<p>{escape(note)}</p>" for note in answer.notes]
    if answer.caption:
        parts.append(f"<h3>caption</h3><p>{escape(answer.caption)}</p>")
    said = [f"<p><b>{value:.1%}</b> {escape(which)}: {escape(words)}</p>" for which, words, value in match if value is not None]
    if said:
        parts.append("<h3>does the text belong to the picture?</h3>" + "".join(said))
    return f'<div class="hits">{"".join(parts) or "<p>No head was trained.</p>"}</div>'


def _pixels(jpeg: bytes | None) -> np.ndarray | None:
    return None if jpeg is None else np.asarray(Image.open(io.BytesIO(jpeg)).convert("RGB"))


def _preview(jpeg: bytes | None) -> str:
    return "" if jpeg is None else f'<img alt="your picture" src="data:image/jpeg;base64,{base64.b64encode(jpeg).decode()}">'


def _pictures(studio: Studio, hits: Sequence[Hit]) -> list[tuple[Image.Image, str]]:
    return [(_thumbnail(studio, hit), str(number)) for number, hit in enumerate(hits, 1)]


def _thumbnail(studio: Studio, hit: Hit) -> Image.Image:
    try:
        return studio.thumbnail(hit.image_path)
    except UserError:  # its picture has gone from the disk since it was indexed
        return Image.new("RGB", (64, 64), "lightgrey")

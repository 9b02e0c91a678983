"""The fixture ``browser`` sees what it is there to see: broken pictures, the console, requests, width, colour scheme."""

import base64
import io

import pytest
from PIL import Image

PAGE = """<!DOCTYPE html><html><head><title>t</title><link rel="icon" href="data:,"><meta name="viewport" content="width=device-width">
<style>body {{ margin: 0 }} @media (prefers-color-scheme: dark) {{ body {{ background: rgb(1, 2, 3) }} }}</style></head>
<body><img alt="one" src="{picture}">{more}</body></html>"""


def page(folder, more: str = "", picture: str = ""):
    buffer = io.BytesIO()
    Image.new("RGB", (4, 4), "red").save(buffer, "PNG")
    path = folder / "page.html"
    path.write_text(PAGE.format(picture=picture or f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}", more=more))
    return path


@pytest.mark.parametrize("dark, colour", [(False, "rgba(0, 0, 0, 0)"), (True, "rgb(1, 2, 3)")])
def test_a_page_without_fault(browser, tmp_path, dark, colour):
    with browser.open(page(tmp_path), width=390, dark=dark) as opened:
        opened.check()
        assert opened.page.evaluate("[innerWidth, getComputedStyle(document.body).backgroundColor]") == [390, colour]


def test_what_is_wrong_with_a_page(browser, tmp_path):
    fault = "<script>console.error('oh'); throw Error('dear')</script><div style='width: 500px'>wide</div><img alt='two' src='http://127.0.0.1:9/x.png'>"
    with browser.open(page(tmp_path, fault, "data:image/png;base64,AAAA"), width=390) as opened:
        assert opened.overflow() == 110 and opened.broken_images() == ["one", "two"]
        assert opened.outside() == ["http://127.0.0.1:9/x.png"] and not opened.outside("http://127.0.0.1:9/")
        assert "oh" in opened.errors and "dear" in opened.errors
        for fix in ("errors", "requests"):
            with pytest.raises(AssertionError):
                opened.check()
            getattr(opened, fix).clear()
        with pytest.raises(AssertionError):
            opened.check()

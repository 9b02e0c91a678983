"""A real browser for tests of pages: Chromium without a window, driven by Playwright.

    def test_a_page(browser):                                   # the fixture, known to every test (tests/conftest.py)
        with browser.open("page.html", width=390, dark=True) as opened:
            opened.check()                                      # pictures, console, network, width
            assert opened.page.locator("h1").inner_text() == "..."

``opened.page`` is Playwright's Page: it clicks, types, uploads and waits. The browser is that of this machine: KALEIDO_BROWSER, or the
first of PROGRAMS on PATH; without one, or without Playwright, the tests are skipped and say so. Nothing is downloaded.
"""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

PROGRAMS = ("chromium", "chromium-browser", "google-chrome-stable", "google-chrome")
INSIDE = ("data:", "blob:", "about:")  # addresses that are no request
BROKEN = """() => [...document.images].filter(image => !image.complete || !image.naturalWidth)
  .map(image => image.alt || image.src.slice(0, 80))"""
WIDER = "() => document.documentElement.scrollWidth - document.documentElement.clientWidth"
# the innermost elements that stick out of the page, but for those in a box that scrolls by itself
CULPRITS = """() => [...document.querySelectorAll('body *')].filter(one => {
  const within = box => box && (['auto', 'scroll', 'hidden'].includes(getComputedStyle(box).overflowX) || within(box.parentElement));
  return one.getBoundingClientRect().right > document.documentElement.clientWidth + 1 && !within(one.parentElement)
}).slice(-5).map(one => `${one.tagName.toLowerCase()}.${one.className}: ${one.textContent.trim().slice(0, 60)}`)"""


@dataclass
class Opened:
    """A page in the browser. page: Playwright's; errors: what its console and its scripts complained of; requests: what it asked for."""

    page: Any
    errors: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)

    def outside(self, *origins: str) -> list[str]:
        """Returns the requests that leave the page itself. origins: beginnings of addresses that belong to it, such as its server's."""
        return [url for url in self.requests[1:] if not url.startswith((*INSIDE, *origins))]

    def broken_images(self) -> list[str]:
        """Returns the names of the pictures that are not shown."""
        return self.page.evaluate(BROKEN)

    def overflow(self) -> int:
        """Returns by how many pixels the page is wider than its window: 0 where it does not scroll sideways."""
        return self.page.evaluate(WIDER)

    def check(self, *origins: str) -> None:
        """Asserts that every picture is there, the console is silent, nothing is fetched from elsewhere, nothing scrolls sideways."""
        assert not self.errors
        assert not self.outside(*origins)
        assert not self.broken_images()
        assert self.overflow() <= 0, self.page.evaluate(CULPRITS)


class Browser:
    """Opens pages, each in a context of its own: no cookies, no cache of another test."""

    def __init__(self, chromium: Any):
        self._chromium = chromium

    @contextmanager
    def open(self, where: str | Path, width: int = 1400, height: int = 900, dark: bool = False, phone: bool = False) -> Iterator[Opened]:
        """Loads a file or an address. dark: what the page learns by prefers-color-scheme; phone: a touch screen."""
        context = self._chromium.new_context(viewport={"width": width, "height": height}, color_scheme="dark" if dark else "light",
                                             is_mobile=phone, has_touch=phone)
        opened = Opened(context.new_page())
        opened.page.on("console", lambda message: message.type in ("error", "warning") and opened.errors.append(message.text))
        opened.page.on("pageerror", lambda error: opened.errors.append(str(error)))
        opened.page.on("request", lambda request: opened.requests.append(request.url))
        try:
            opened.page.goto(where.absolute().as_uri() if isinstance(where, Path) else where)
            yield opened
        finally:
            context.close()


def program() -> str | None:
    """Returns the path of the browser; None where there is none."""
    return os.environ.get("KALEIDO_BROWSER") or next(filter(None, map(shutil.which, PROGRAMS)), None)


@pytest.fixture(scope="module")  # not of the session: while Playwright runs, nothing else in this thread may start an event loop
def browser() -> Iterator[Browser]:
    """A ``Browser``; the test is skipped where there is none."""
    path = program()
    if path is None:
        pytest.skip(f"no browser: KALEIDO_BROWSER is not set and none of {', '.join(PROGRAMS)} on PATH (Debian: apt-get install chromium)")
    playwright = pytest.importorskip("playwright.sync_api", reason="no Playwright: pip install -e '.[test]'")
    with playwright.sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=path, args=["--disable-gpu", "--disable-dev-shm-usage"])
        yield Browser(chromium)
        chromium.close()

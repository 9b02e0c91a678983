"""Fixtures of several test modules."""

import pytest

from tests.servers import serving


@pytest.fixture
def server(monkeypatch):
    """An HTTP server on the loopback, reached without this machine's proxy and passwords."""
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.setenv("NETRC", "/nowhere")
    with serving() as server:
        yield server

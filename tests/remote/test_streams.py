"""Servers that refuse, passwords that are sent and never shown, redirects that are not followed into the open."""

import email.message
import urllib.request

import pytest

from kaleidobert.errors import UserError
from kaleidobert.remote import streams
from kaleidobert.remote.downloads import Options, fetch
from kaleidobert.remote.manifests import File
from kaleidobert.remote.streams import redacted

FAST = Options(attempts=3, pause=0.001, timeout=5)
CONTENT = bytes(range(256)) * 10


@pytest.mark.parametrize("status, message", [(403, r"access is refused \(HTTP 403\)"), (404, r"there is no such file \(HTTP 404\)"),
                                             (410, r"gone \(HTTP 410\)"), (418, "HTTP 418")])
def test_refusals_are_told_at_once_and_with_whom_to_ask(server, tmp_path, status, message):
    server.add("a.bin", CONTENT, f"status {status}")
    with pytest.raises(UserError, match=f"{message}; to fix: .*mirror=URL_OR_FOLDER; ask Ann"):
        fetch([File("a.bin", f"{server.url}/a.bin", ask="ask Ann")], tmp_path, options=FAST)
    assert len(server.requests) == 1 and list(tmp_path.iterdir()) == []


def test_passwords_are_sent_and_never_shown(server, tmp_path, monkeypatch):
    server.add("a.bin?key=SECRET", CONTENT)
    place = server.url.removeprefix("http://")
    fetch([File("a.bin", f"http://ann:SECRET@{place}/a.bin?key=SECRET")], tmp_path, options=FAST)
    assert server.requests[-1][1]["Authorization"] == "Basic YW5uOlNFQ1JFVA=="
    fetch([File("b.bin", f"http://SECRET@{place}/a.bin?key=SECRET")], tmp_path, options=FAST)
    assert server.requests[-1][1]["Authorization"] == "Basic U0VDUkVUOg=="  # SECRET:
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login bob password SECRET\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    for url in (f"http://ann:SECRET@{place}/none?key=SECRET", f"http://ann:SEC/RET@{place}/x", f"http://ann:SECRET@{place}/a b",
                "http://ann:SECRET@nowhere.invalid/x?SECRET", f"ftp://ann:SECRET@{place}/x", f"{server.url}/x?token=SECRET#SECRET"):
        with pytest.raises(UserError) as caught:
            fetch([File("x", url, ask="ask Ann")], tmp_path, options=FAST)
        assert "SEC" not in str(caught.value) and "SEC" not in redacted(url)
    assert server.requests[-1][1]["Authorization"].startswith("Basic Ym9i")  # bob
    assert not any(b"SECRET" in path.read_bytes() for path in tmp_path.rglob("*") if path.is_file() and path.name != "netrc")


@pytest.mark.parametrize("url, text", [
    ("bank/a", "bank/a"), ("s3://bucket/a?b", "s3://bucket/a"), ("https://host:8000/a@b", "https://host:8000/a@b"),
    ("https://[::1]:80/a", "https://[::1]:80/a"), ("https://u@host?x/y", "https://host"), ("https://u:p/w@host/a", "https://...")])
def test_shown(url, text):
    assert redacted(url) == text


def test_redirects_go_on_but_never_to_something_weaker(server, tmp_path):
    server.add("new", CONTENT)
    server.add("old", b"", "status 302")
    server.location = f"{server.url}/new"
    fetch([File("a", f"http://ann:SECRET@{server.url[7:]}/old")], tmp_path, options=FAST)
    assert (tmp_path / "a").read_bytes() == CONTENT and "Authorization" not in server.requests[-1][1]
    request = urllib.request.Request("https://host/a?SECRET")
    for target in ("http://host/a", "ftp://host/a"):
        with pytest.raises(UserError, match="https://host/a: redirects to an address without encryption"):
            streams.Redirects().redirect_request(request, None, 302, "", email.message.Message(), target)
    assert streams.Redirects().redirect_request(request, None, 302, "", email.message.Message(), "https://other/a").host == "other"

"""Pictures at addresses: from a server that is slow, breaks, redirects and serves pages in place of pictures."""

import contextlib
import gzip
import io
import socket
import threading
import time
from contextlib import contextmanager

import numpy as np
import pytest
from PIL import Image

from kaleidobert.errors import UserError
from kaleidobert.io import NoSpace
from kaleidobert.remote import pictures, streams
from kaleidobert.remote.downloads import Options

PATIENT = Options(attempts=2, pause=0.01, timeout=5.0)
OWN = pictures.Limits(private=True)


def picture(number: int = 0, kind: str = "PNG") -> bytes:
    sink = io.BytesIO()
    Image.fromarray(np.random.default_rng(number).integers(0, 256, (40, 30, 3), np.uint8)).save(sink, kind)
    return sink.getvalue()


@pytest.fixture
def fetched(server, tmp_path):
    """Function: names of files of the server -> {name: fault}."""
    def fetch(*names, options=PATIENT, limits=OWN):
        wanted = {f"{server.url}/{name}": tmp_path / "cache" / name for name in names}
        found = dict(pictures.fetch(wanted, options, limits))
        assert found.keys() == wanted.keys()
        assert all(path.is_file() == (not found[address]) for address, path in wanted.items())
        return {name: found[f"{server.url}/{name}"] for name in names}

    return fetch


def test_pictures_come_once_and_as_they_are(server, fetched, tmp_path):
    content = [server.add(f"{n}.png", picture(n)) for n in range(12)]
    names = [f"{n}.png" for n in range(12)]
    assert not any(fetched(*names).values())
    assert [(tmp_path / "cache" / name).read_bytes() for name in names] == content
    assert sorted(path.name for path in (tmp_path / "cache").iterdir()) == sorted(names)  # nothing hidden stays
    assert not any(fetched(*names).values()) and len(server.requests) == 12


def test_what_cannot_be_had_has_its_reason_and_the_others_come(server, fetched, tmp_path):
    server.add("good.jpg", picture(kind="JPEG"))
    server.add("page.jpg", b"\n <!DOCTYPE html><html><body>please log in</body></html>")
    server.add("drawing.svg", b'<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg"/>')
    server.add("noise.png", bytes(range(256)))
    server.add("nothing.png", b"")
    server.add("secret.png", picture(), "status 403")
    server.add("huge.png", picture() + bytes(100_000))
    server.add("hidden.png", picture() + bytes(100_000), "no-length")
    server.add("busy.png", picture(), "status 503")
    limits = pictures.Limits(private=True, max_bytes=50_000)
    assert fetched("good.jpg", "page.jpg", "drawing.svg", "noise.png", "nothing.png", "secret.png", "gone.png", "huge.png", "hidden.png",
                   "busy.png", limits=limits) == {
        "good.jpg": "", "page.jpg": "the server sent a web page, no picture", "drawing.svg": "the server sent a drawing (SVG), no picture",
        "noise.png": "what the server sent is no picture", "nothing.png": "the server sent nothing",
        "secret.png": "access is refused (HTTP 403)", "gone.png": "there is no such file (HTTP 404)",
        "huge.png": "the file is larger than 50,000 bytes", "hidden.png": "the file is larger than 50,000 bytes",
        "busy.png": "the server answered HTTP 503; tried 2 times"}
    assert [path.name for path in (tmp_path / "cache").iterdir() if path.stat().st_size > 50_000] == []


@pytest.mark.parametrize("content, plan, fault", [
    (picture(kind="JPEG")[:-400], "no-length", "the picture that the server sent is cut off or damaged"),
    (picture()[:-900], "ok", "the picture that the server sent is cut off or damaged"),
    (gzip.compress(picture()), "ok", "the server sent something compressed (gzip), no picture"),
    (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n%%EOF\n", "ok", "the server sent a drawing (EPS), no picture"),
], ids=["cut JPEG", "cut PNG", "gzip", "EPS"])
def test_what_is_no_whole_picture_never_gets_into_the_cache(server, fetched, content, plan, fault):
    """A picture in the cache is never asked for again: half a one would stay for ever."""
    server.add("a.jpg", content, plan)
    assert fetched("a.jpg") == {"a.jpg": fault}


def test_a_picture_that_comes_in_drops_is_given_up_and_can_be_interrupted(tmp_path):
    with dropping() as address:
        started = time.monotonic()
        limits = pictures.Limits(private=True, max_seconds=0.5)
        assert dict(pictures.fetch({address: tmp_path / "a.png"}, PATIENT, limits))[address].endswith("bytes came in 0.5 seconds")
        fetcher = pictures._fetcher(PATIENT, OWN)
        threading.Timer(0.5, fetcher.stop.set).start()
        assert pictures._fetch(fetcher, address, tmp_path / "a.png", pictures._Host(1)) == "the download was interrupted"
        assert time.monotonic() - started < 4


@contextmanager
def dropping():
    """The address of a picture of which a byte comes every tenth of a second."""
    ended = threading.Event()

    def serve(listening: socket.socket) -> None:
        while not ended.is_set():
            with contextlib.suppress(OSError):
                client, _ = listening.accept()
                with client:
                    client.recv(4096)
                    client.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n")
                    while not ended.wait(0.1):
                        client.sendall(b"x")

    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(0.2)
        thread = threading.Thread(target=serve, args=(listening,), daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}/a.png"
        ended.set()
        thread.join()


def test_numbers_of_thousands_of_digits_are_a_fault_of_the_picture(server, fetched, monkeypatch):
    server.add("a.png", picture())
    length = streams._stream
    monkeypatch.setattr(streams, "_stream", lambda answer, *rest: (answer.headers.replace_header("Content-Length", "9" * 5000),
                                                                   length(answer, *rest))[1])
    assert fetched("a.png") == {"a.png": "the server says no length that can be read"}


def test_a_host_that_breaks_and_waits_is_asked_again(server, fetched):
    server.add("cut.png", picture(1), "cut 100", "ok")
    server.add("busy.png", picture(2), "status 429", "ok")
    server.add("late.png", picture(3), "late 15", "ok")
    assert not any(fetched("cut.png", "busy.png", "late.png", options=Options(attempts=3, pause=0.01, timeout=1.0)).values())
    assert server.ranges("cut.png") == ["", "bytes=100-"]  # goes on where it broke


def test_a_silent_host_ends_itself_and_no_other(server, tmp_path):
    with socket.socket() as dead:
        dead.bind(("127.0.0.1", 0))
        port = dead.getsockname()[1]  # where nobody listens from now on
    server.add("good.png", picture())
    silent = {f"http://127.0.0.1:{port}/{n}.png": tmp_path / f"{n}.png" for n in range(40)}
    found = dict(pictures.fetch({**silent, f"{server.url}/good.png": tmp_path / "good.png"}, PATIENT, OWN))
    assert found.pop(f"{server.url}/good.png") == ""
    untried = [fault for fault in found.values() if fault == f"127.0.0.1:{port} did not answer for {pictures.SILENT} other pictures"]
    assert 40 - pictures.SILENT - OWN.per_host <= len(untried) <= 40 - pictures.SILENT and all(found.values())


def test_a_host_is_asked_so_many_at_a_time(server, fetched):
    for number in range(20):
        server.add(f"{number}.png", picture(number), "late 1")
    assert not any(fetched(*(f"{n}.png" for n in range(20)), limits=pictures.Limits(workers=16, per_host=3, private=True)).values())
    assert server.most_at_once == 3


# --- The machine's own network


@pytest.mark.parametrize("limits, fault", [(OWN, ""), (pictures.Limits(), "the address is of this machine's own network, which "
                                                                          "source.download.private=true allows")], ids=["own", "public"])
def test_addresses_of_the_own_network_have_to_be_allowed(server, fetched, limits, fault):
    server.add("a.png", picture())
    assert fetched("a.png", limits=limits) == {"a.png": fault}
    assert len(server.requests) == (not fault)


@pytest.mark.parametrize("host", ["%31%32%37.0.0.1", "127.0.0%2e1", "2130706433", "0x7f.1", "localhost", "[::1]", "[::ffff:127.0.0.1]"])
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_no_spelling_of_the_own_network_gets_past(server, tmp_path, scheme, host):
    server.add("a.png", picture())
    address = f"{scheme}://{host}:{server.server_address[1]}/a.png"
    assert dict(pictures.fetch({address: tmp_path / "a.png"}, PATIENT, pictures.Limits()))[address].startswith(
        "the address is of this machine's own network")
    assert not server.requests


def test_a_redirect_to_ftp_is_not_followed(server, fetched):
    """Its connection would be past the look at the address."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        other.settimeout(0.2)
        server.add("a.png", picture(), "status 302")
        server.location = f"ftp://127.0.0.1:{other.getsockname()[1]}/b.png"
        assert fetched("a.png") == {"a.png": "redirects to an address of another kind"}
        with pytest.raises(TimeoutError):
            other.accept()


def test_redirects_lead_into_the_own_network_no_more_than_addresses_do(server, fetched, monkeypatch):
    """The first host counts as public here; it redirects to another name of the loopback."""
    server.add("a.png", picture(), "status 302")
    server.location = f"http://localhost:{server.server_address[1]}/b.png"
    server.add("b.png", picture())
    resolve, own = socket.getaddrinfo, pictures.is_public
    monkeypatch.setattr(pictures, "is_public", lambda address: address == "127.0.0.1" or own(address))
    monkeypatch.setattr(socket, "getaddrinfo", lambda host, *rest, **named: [(2, 1, 6, "", ("10.0.0.1", 80))] if host == "localhost"
                        else resolve(host, *rest, **named))
    assert fetched("a.png", limits=pictures.Limits())["a.png"].startswith("the address is of this machine's own network")
    assert [path for path, _ in server.requests] == ["/a.png"]


def test_a_name_that_leads_elsewhere_once_it_is_connected_is_refused(server, fetched, monkeypatch):
    server.add("a.png", picture())
    resolve, times = socket.getaddrinfo, []

    def changing(host, *rest, **named):
        times.append(host)
        return [(2, 1, 6, "", ("93.184.215.14", 80))] if len(times) == 1 else resolve(host, *rest, **named)

    monkeypatch.setattr(socket, "getaddrinfo", changing)
    assert fetched("a.png", limits=pictures.Limits())["a.png"].startswith("the address is of this machine's own network")
    assert len(times) > 1 and not server.requests


@pytest.mark.parametrize("address", ["0.0.0.0", "127.1.2.3", "172.16.0.1", "100.64.0.1", "fe80::1%eth0", "fd00::1", "::", "224.0.0.1",
                                     "::ffff:10.0.0.1", "2002:7f00:1::", "64:ff9b::7f00:1", "64:ff9b:1::1",
                                     "::127.0.0.1", "fec0::1", "not-a-number"])
def test_an_address_is_not_public(address):
    assert not pictures.is_public(address)


def test_an_address_is_public():
    assert pictures.is_public("93.184.215.14") and pictures.is_public("2606:4700::1111")
    assert pictures.is_public("64:ff9b::93.184.215.14") and pictures.is_public("::ffff:93.184.215.14")


# --- Before, and when it ends early


def test_an_estimate_asks_a_few_and_writes_nothing(server, tmp_path):
    content = [server.add(f"{n}.png", picture(n)) for n in range(64)]
    wanted = {f"{server.url}/{n}.png": tmp_path / f"{n}.png" for n in range(65)}
    (tmp_path / "0.png").write_bytes(content[0])
    result = pictures.estimate(wanted, PATIENT, OWN)
    assert result.count == 64 and len(server.requests) <= pictures.SAMPLE and set(result.sizes) <= {len(each) for each in content}
    size = sum(result.sizes) / len(result.sizes) * 64 / 1e6
    assert result.describe() == ("pictures at addresses: 64 to fetch "
                                 f"(127.0.0.1:{server.server_address[1]} x 64), about {size:,.0f} MB, by "
                                 f"{len(result.sizes)} of them")
    assert [path.name for path in tmp_path.iterdir()] == ["0.png"]
    assert pictures.estimate({}, PATIENT, OWN).describe() == "pictures at addresses: all are fetched"


def test_an_estimate_says_what_it_met(server, tmp_path):
    result = pictures.estimate({f"{server.url}/gone.png": tmp_path / "gone.png"}, PATIENT, OWN)
    assert result.faults == {f"{server.url}/gone.png": "there is no such file (HTTP 404)"} and "of unknown size" in result.describe()


def test_an_estimate_survives_answers_that_make_no_sense(server, tmp_path):
    server.add("a.png", picture(), "status 416")
    address = f"{server.url}/a.png"
    assert pictures.estimate({address: tmp_path / "a.png"}, PATIENT, OWN).faults == {
        address: "the server answers as if a part of the file had been wanted"}


def test_a_full_disk_ends_it_and_what_came_stays(server, tmp_path, full_disk):
    server.add("a.png", picture(1))
    list(pictures.fetch({f"{server.url}/a.png": tmp_path / "a.png"}, PATIENT, OWN))
    full_disk(".part")
    server.add("b.png", picture(2))
    with pytest.raises(UserError) as error:
        list(pictures.fetch({f"{server.url}/{name}.png": tmp_path / f"{name}.png" for name in "ab"}, PATIENT, OWN))
    assert isinstance(error.value, NoSpace) and (tmp_path / "a.png").is_file() and not (tmp_path / "b.png").exists()


def test_an_interrupted_download_keeps_what_came(server, tmp_path):
    for number in range(30):
        server.add(f"{number}.png", picture(number), "late 1")
    wanted = {f"{server.url}/{n}.png": tmp_path / f"{n}.png" for n in range(30)}
    running = pictures.fetch(wanted, PATIENT, pictures.Limits(workers=2, per_host=2, private=True))
    assert not any(next(running)[1] for _ in range(3))
    running.close()
    there = [path for path in tmp_path.iterdir() if path.suffix == ".png"]
    assert 3 <= len(there) < 20
    asked = len(server.requests)
    assert not any(fault for _, fault in pictures.fetch(wanted, PATIENT, OWN)) and len(server.requests) == asked + 30 - len(there)

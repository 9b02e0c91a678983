"""Pictures at addresses: from a server that is slow, breaks, redirects and serves pages in place of pictures."""

import io
import socket

import numpy as np
import pytest
from PIL import Image

from kaleidobert.errors import UserError
from kaleidobert.io import NoSpace
from kaleidobert.remote import pictures
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
                                     "::ffff:10.0.0.1", "2002:7f00:1::", "not-a-number"])
def test_an_address_is_not_public(address):
    assert not pictures.is_public(address)


def test_an_address_is_public():
    assert pictures.is_public("93.184.215.14") and pictures.is_public("2606:4700::1111")


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

"""Pictures at addresses: many small files of a few hosts, some of which are gone, are no pictures, or come slowly.

Every picture is fetched once, and stands at the caller's path when it is complete and seen to be a picture.
"""

import ipaddress
import socket
import threading
import urllib.request
from collections import Counter, deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import closing
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPResponse
from pathlib import Path
from urllib.parse import urlsplit

from PIL import Image

from kaleidobert import io
from kaleidobert.errors import UserError
from kaleidobert.remote.downloads import Exhausted, Fetcher, Options, Stopped
from kaleidobert.remote.manifests import File
from kaleidobert.remote.streams import Broken, Changed, redacted

SILENT = 8  # pictures of a host in a row that no attempt brings, after which its others are not tried
SAMPLE = 16  # pictures that are asked for their size
PAGE, DRAWING, GZIP = (b"<!doctype html", b"<html"), (b"<svg", b"<?xml"), b"\x1f\x8b"
DRAWINGS = ("EPS", "WMF")  # which Pillow has other programs draw
MAX_PIXELS = 100_000_000  # as datasets/products.py


@dataclass(frozen=True)
class Limits:
    """How pictures are fetched: workers at a time, per_host of one host; max_bytes of a picture, and the max_seconds that it may take;
    private: whether addresses of the machine's own network are fetched."""

    workers: int = 16
    per_host: int = 4
    max_bytes: int = 32 << 20
    max_seconds: float = 300.0
    private: bool = False


@dataclass(frozen=True)
class Estimate:
    """What is still to be fetched. count: pictures; hosts: {host: of them}; sizes: bytes of those that were asked; faults: {address: why
    it cannot be had} of these."""

    count: int
    hosts: Mapping[str, int] = field(default_factory=dict)
    sizes: Sequence[int] = ()
    faults: Mapping[str, str] = field(default_factory=dict)

    def describe(self) -> str:
        """Returns a line to print."""
        if not self.count:
            return "pictures at addresses: all are fetched"
        hosts = ", ".join(f"{host} x {count:,}" for host, count in Counter(self.hosts).most_common(3))
        more = f" and {len(self.hosts) - 3} other hosts" if len(self.hosts) > 3 else ""
        size = f"about {sum(self.sizes) / len(self.sizes) * self.count / 1e6:,.0f} MB, by {len(self.sizes)} of them" if self.sizes else \
            "of unknown size"
        return f"pictures at addresses: {self.count:,} to fetch ({hosts}{more}), {size}"


def estimate(pictures: Mapping[str, Path], options: Options, limits: Limits) -> Estimate:
    """Asks for the sizes of a few of the pictures {address: path} that are not there; writes nothing."""
    todo = [address for address, path in pictures.items() if not path.is_file()]
    if not todo:
        return Estimate(0)
    remote = _fetcher(options, limits).remote
    faults: dict[str, str] = {}

    def size(address: str) -> int | None:
        try:
            with closing(remote.open(address)) as stream:
                return stream.total
        except UserError as error:
            faults[address] = error.what
        except Broken as error:
            faults[address] = str(error)
        except Changed:
            faults[address] = "the server answers as if a part of the file had been wanted"
        return None

    with ThreadPoolExecutor(limits.per_host) as pool:
        sizes = list(pool.map(size, todo[:: max(1, len(todo) // SAMPLE)][:SAMPLE]))
    return Estimate(len(todo), Counter(map(_host, todo)), [number for number in sizes if number is not None], faults)


def fetch(pictures: Mapping[str, Path], options: Options, limits: Limits) -> Iterator[tuple[str, str]]:
    """Fetches the pictures {address: path} that are not there, several of every host at a time; yields (address, fault) of each: "" where
    it is there now, else why it cannot be had.

    Raises UserError on a full disk. What is fetched stays, and another call goes on from there.
    """
    todo = {address: path for address, path in pictures.items() if not path.is_file()}
    yield from ((address, "") for address in pictures if address not in todo)
    hosts = {host: _Host(limits.per_host) for host in map(_host, todo)}
    fetcher = _fetcher(options, limits)
    with ThreadPoolExecutor(limits.workers) as pool:
        running = {pool.submit(_fetch, fetcher, address, todo[address], hosts[_host(address)]): address for address in _in_turn(todo)}
        try:
            for future in as_completed(running):
                yield running[future], future.result()
        except BaseException:
            fetcher.stop.set()
            pool.shutdown(cancel_futures=True)
            raise


def no_picture(path: Path) -> str:
    """Returns why a file is no picture, "" where it is a whole one."""
    drawing = ""
    try:
        with Image.open(path) as image:
            drawing = image.format if image.format in DRAWINGS else ""
            if not drawing and image.width * image.height <= MAX_PIXELS:  # what is read refuses larger ones, with their size
                image.load()
        return f"the server sent a drawing ({drawing}), no picture" if drawing else ""
    except Exception:  # Pillow's decoders raise many types
        if _begins(path):
            return "the picture that the server sent is cut off or damaged"
    with open(path, "rb") as file:
        start = file.read(512).lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if not start:
        return "the server sent nothing"
    if any(mark in start for mark in PAGE):
        return "the server sent a web page, no picture"
    if start.startswith(GZIP):
        return "the server sent something compressed (gzip), no picture"
    return "the server sent a drawing (SVG), no picture" if start.startswith(DRAWING) else "what the server sent is no picture"


def _begins(path: Path) -> bool:
    """Whether the header of a file is a picture's."""
    try:
        with Image.open(path):
            return True
    except Exception:  # as above
        return False


class _Host:
    """A host that is asked by so many threads at a time. silent: pictures in a row that no attempt brought."""

    def __init__(self, at_once: int):
        self.turn, self.silent = threading.Semaphore(at_once), 0


def _fetch(fetcher: Fetcher, address: str, path: Path, host: _Host) -> str:
    """Fetches one picture; returns "" or why it cannot be had."""
    with host.turn:
        if host.silent >= SILENT:
            return f"{_host(address)} did not answer for {SILENT} other pictures"
        whole = path.with_name(path.name + ".whole")
        try:
            fetcher.fetch_file(File(whole.name, address), whole, lambda: address, replace=True)
        except io.NoSpace:
            raise
        except Exhausted as error:
            host.silent += 1
            return error.what
        except UserError as error:
            host.silent = 0
            return error.what
        except Stopped:
            return "the download was interrupted"
        host.silent = 0
    with io.explained(path, resumes=True):
        if not whole.is_file():  # another process has fetched it as well
            return "" if path.is_file() else "what came was deleted meanwhile"
        reason = no_picture(whole)
        whole.unlink() if reason else whole.replace(path)
    return reason


def _in_turn(addresses: Mapping[str, Path]) -> Iterator[str]:
    """Yields the addresses with those of different hosts in turn."""
    waiting: dict[str, deque[str]] = {}
    for address in addresses:
        waiting.setdefault(_host(address), deque()).append(address)
    while waiting:
        for host in list(waiting):
            yield waiting[host].popleft()
            if not waiting[host]:
                del waiting[host]


def _host(address: str) -> str:
    return redacted(address).partition("://")[2].partition("/")[0]


def _fetcher(options: Options, limits: Limits) -> Fetcher:
    return Fetcher(options, handlers=() if limits.private else (PublicOnly, _PublicHTTP), max_bytes=limits.max_bytes,
                   max_seconds=limits.max_seconds)


# --- Addresses of the machine's own network

EMBEDDING = ipaddress.IPv6Network("::/96"), ipaddress.IPv6Network("64:ff9b::/96")  # whose last 32 bits are an address of IPv4
LOCAL_NAT64 = ipaddress.IPv6Network("64:ff9b:1::/48")

class PublicOnly(urllib.request.BaseHandler):
    """Refuses addresses that are not public, of redirects as well: a table of others could reach what only this machine can."""

    def http_request(self, request: urllib.request.Request) -> urllib.request.Request:
        """Returns the request; raises UserError where its host is, or has, an address that is not public."""
        parts = urlsplit(f"//{request.host}")  # as the connection takes it: of "%31%32%37.0.0.1" it is 127.0.0.1
        try:
            found = {str(entry[4][0]) for entry in socket.getaddrinfo(parts.hostname, parts.port or 80, type=socket.SOCK_STREAM)}
        except (OSError, UnicodeError):
            return request  # a proxy may know it, and without one the request says what is wrong
        if not all(map(is_public, found)):
            raise _private(request.full_url)
        return request

    https_request = http_request


class _PublicHTTP(urllib.request.HTTPHandler):
    """Looks at the address again once it is connected: a name may lead elsewhere by then. Of https the certificate says who answers."""

    def http_open(self, request: urllib.request.Request) -> HTTPResponse:
        proxied = request.has_proxy()

        class Connection(HTTPConnection):
            def connect(self):
                super().connect()
                if not proxied and not is_public(self.sock.getpeername()[0]):
                    self.close()
                    raise _private(request.full_url)

        return self.do_open(Connection, request)


def is_public(address: str) -> bool:
    """Whether an IP address is one of the public internet.

    >>> [is_public(each) for each in ("93.184.215.14", "127.0.0.1", "10.1.2.3", "169.254.169.254", "::1", "64:ff9b::192.168.0.1")]
    [True, False, False, False, False, False]
    """
    try:
        number = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    if isinstance(number, ipaddress.IPv6Address):
        if number.is_site_local or number in LOCAL_NAT64:
            return False
        inside = number.ipv4_mapped or number.sixtofour
        if any(number in network for network in EMBEDDING):
            inside = ipaddress.IPv4Address(int(number) & 0xFFFFFFFF)
        if inside is not None and not is_public(str(inside)):
            return False
    return number.is_global and not number.is_multicast


def _private(address: str) -> UserError:
    return UserError("the address is of this machine's own network, which source.download.private=true allows", redacted(address),
                     "an address of the public internet")

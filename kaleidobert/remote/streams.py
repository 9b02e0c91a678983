"""Streams of files, http(s):// or a local path, that can start in the middle; objects.py opens them, and s3:// too.

What ends a try but not the file is raised as Broken (worth another try) or Changed (start anew); what no try can mend as UserError.
Addresses are shown without user, password and query.
"""

import base64
import netrc
import os
import socket
import ssl
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from http.client import HTTPException, HTTPResponse, InvalidURL
from pathlib import Path
from typing import Never

from kaleidobert.errors import UserError

AGAIN = {408, 425, 429, 500, 502, 503, 504}  # HTTP answers worth another try
REFUSALS = {401: "access is refused (HTTP 401)", 403: "access is refused (HTTP 403)", 404: "there is no such file (HTTP 404)",
            410: "the file is gone (HTTP 410)"}
MIRROR = "look at the address, or name another place that holds the files with mirror=URL_OR_FOLDER"


class Broken(Exception):
    """This try failed, another may not. wait: seconds that the server asked for."""

    def __init__(self, reason: str, wait: float = 0.0):
        self.wait = wait
        super().__init__(reason)


class Changed(Exception):
    """The remote file is not, or cannot be shown to be, the one whose beginning was fetched."""


@dataclass(frozen=True)
class Stream:
    """An open remote file. start: first byte that comes; total: bytes of the whole file, None where the server does not say;
    validator: changes when the file does, "" where there is none. read(n) raises Broken, and gives b"" at the end."""

    start: int
    total: int | None
    validator: str
    read: Callable[[int], bytes]
    close: Callable[[], None]


def shown(url: str) -> str:
    """An address fit for messages: without user, password, query and fragment."""
    scheme, sign, rest = str(url).partition("://")
    if not sign:
        return str(url)
    place, slash, path = rest.partition("/")
    place, cut = place.rpartition("@")[2].split("?")[0].split("#")[0], "?" in place or "#" in place
    _, colon, port = place.partition("]" if place.startswith("[") else ":")
    if colon and port.strip(":") and not port.strip(":").isdecimal():  # a password with a slash in it, not a port
        return f"{scheme}://..."
    return f"{scheme}://{place}" + ("" if cut else slash + path.split("?")[0].split("#")[0])


def open_http(url: str, start: int, validator: str, timeout: float) -> Stream:
    """A file by GET, with Range and If-Range where it starts in the middle; a server that ignores them starts at 0."""
    request = _request(url)
    if start:
        request.add_header("Range", f"bytes={start}-")
        if validator:
            request.add_header("If-Range", validator)
    try:
        answer = urllib.request.build_opener(Redirects).open(request, timeout=timeout)
    except urllib.error.HTTPError as error:
        with error:
            _explain_status(error.code, error.headers.get("Retry-After", ""), url)
    except (OSError, HTTPException, ValueError) as error:
        _explain(error, url)
    try:
        return _stream(answer, start, validator, url)
    except BaseException:
        answer.close()
        raise


def _stream(answer: HTTPResponse, start: int, validator: str, url: str) -> Stream:
    length = answer.headers.get("Content-Length", "")
    total = int(length) if length.isdecimal() else None
    tag = answer.headers.get("ETag", "")
    tag = tag if tag.startswith('"') else answer.headers.get("Last-Modified", "")  # a weak tag allows other bytes
    if start and answer.status == 206:
        total = check_range(answer.headers.get("Content-Range", ""), start, total)
        if validator and tag != validator:  # a server that knows Range but not If-Range
            raise Changed
    began = start if answer.status == 206 else 0

    def read(size: int) -> bytes:
        try:
            return answer.read(size)
        except (OSError, HTTPException) as error:
            _explain(error, url)

    return Stream(began, total, tag, read, answer.close)


class Redirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects, but never from https to something weaker."""

    def redirect_request(self, request, file, code, message, headers, target):
        if request.full_url.startswith("https:") and not target.startswith("https:"):
            raise UserError("redirects to an address without encryption", shown(request.full_url), "https://")
        return super().redirect_request(request, file, code, message, headers, target)


def _request(url: str) -> urllib.request.Request:
    """A GET; the password, from the address or ~/.netrc, goes into a header that redirects do not carry along."""
    scheme, _, rest = url.partition("://")
    pair, sign, _ = rest.partition("/")[0].rpartition("@")
    request = urllib.request.Request(f"{scheme}://{rest[len(pair) + len(sign):]}",
                                     headers={"User-Agent": "kaleidobert", "Accept-Encoding": "identity"})
    pair = urllib.parse.unquote(pair) if sign else _netrc(request.host or "")
    if pair:
        pair += "" if ":" in pair else ":"  # a token in place of a user
        request.add_unredirected_header("Authorization", f"Basic {base64.b64encode(pair.encode()).decode()}")
    return request


def _netrc(host: str) -> str:
    """user:password of a host that ~/.netrc (or the file NETRC) names, else ""."""
    with suppress(OSError, netrc.NetrcParseError):
        login = netrc.netrc(os.environ.get("NETRC")).hosts.get(host.partition(":")[0])
        return f"{login[0]}:{login[2]}" if login else ""
    return ""


def open_local(url: str, start: int, validator: str) -> Stream:
    """A file of this machine, by its path or as file://. Changed where its time or size is another."""
    path = Path(urllib.parse.unquote(url.removeprefix("file://")) if url.startswith("file://") else url)
    try:
        file = open(path, "rb")
    except OSError as error:
        raise UserError(f"cannot be read ({error.strerror})", str(path), fix=MIRROR) from None
    state = os.fstat(file.fileno())
    tag = f"{state.st_mtime_ns}-{state.st_size}"
    if start and tag != validator:
        file.close()
        raise Changed
    file.seek(start)
    return Stream(start, state.st_size, tag, file.read, file.close)


def check_range(header: str, start: int, length: int | None) -> int | None:
    """The whole size from "bytes 5-9/10", or from the length of the part; Changed where another part came than was asked for."""
    span, _, total = header.removeprefix("bytes").strip().partition("/")
    if span.partition("-")[0] != str(start):
        raise Changed
    return int(total) if total.isdecimal() else length and start + length


def _explain_status(status: int, wait: str, url: str) -> Never:
    if status in (412, 416):
        raise Changed
    if status in AGAIN:
        raise Broken(f"the server answered HTTP {status}", float(wait) if wait.isdecimal() else 0.0)
    raise UserError(REFUSALS.get(status, f"the server answered HTTP {status}"), shown(url), fix=MIRROR)


def _explain(error: Exception, url: str) -> Never:
    """A lost connection as Broken, what no other try can mend as UserError; quotes no address with its secrets."""
    host = shown(url).split("/")[2]
    reason = error.reason if isinstance(error, urllib.error.URLError) and isinstance(error.reason, Exception) else error
    if isinstance(reason, ssl.SSLCertVerificationError):
        raise UserError(f"the certificate of {host} is not trusted ({reason.verify_message})", shown(url)) from None
    if isinstance(reason, socket.gaierror):
        raise Broken(f"the host {host} cannot be found (no network?)") from None
    if isinstance(reason, TimeoutError):
        raise Broken(f"the host {host} is silent") from None
    if isinstance(reason, OSError):
        raise Broken(f"the connection to {host} broke ({reason.strerror or type(reason).__name__})") from None
    if isinstance(reason, HTTPException) and not isinstance(reason, InvalidURL):
        raise Broken(f"the connection to {host} broke ({type(reason).__name__})") from None
    raise UserError("is not an address that can be fetched", shown(url), "https://host/path") from None

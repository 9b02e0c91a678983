"""Streams of files at http(s)://, s3:// or a local path, which can start in the middle.

    stream = Remote(endpoint="https://minio.example").open("s3://bucket/data.tar", start=1_000_000, validator=seen_before)

Errors: Broken where another attempt may succeed, Changed where the remote file differs from the one whose beginning was fetched, and
UserError where no attempt can succeed. Messages show addresses without user, password and query. S3 goes through boto3: the bucket
comes from the address; endpoint, region and credentials from the environment and ~/.aws.
"""

import base64
import netrc
import os
import socket
import ssl
import threading
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from http.client import HTTPException, HTTPResponse, InvalidURL
from pathlib import Path
from types import TracebackType
from typing import Any, Never

from kaleidobert.errors import UserError

RETRYABLE = {408, 425, 429, 500, 502, 503, 504}  # HTTP answers after which another attempt may succeed
REFUSALS = {401: "access is refused (HTTP 401)", 403: "access is refused (HTTP 403)", 404: "there is no such file (HTTP 404)",
            410: "the file is gone (HTTP 410)"}
MIRROR = "look at the address, or name another location of the files with mirror=URL_OR_FOLDER"


class Broken(Exception):
    """This attempt failed; another may succeed. wait: seconds that the server requests before it."""

    def __init__(self, reason: str, wait: float = 0.0):
        self.wait = wait
        super().__init__(reason)


class Changed(Exception):
    """The remote file is not, or not provably, the one whose beginning was fetched."""


@dataclass(frozen=True)
class Stream:
    """An open remote file. start: first byte that comes; total: bytes of the whole file, None where the server does not say;
    validator: changes when the file does, "" where there is none. read(n) raises Broken, and returns b"" at the end."""

    start: int
    total: int | None
    validator: str
    read: Callable[[int], bytes]
    close: Callable[[], None]


def redacted(url: str) -> str:
    """Returns an address for messages: without user, password, query and fragment."""
    scheme, sign, rest = str(url).partition("://")
    if not sign:
        return str(url)
    host, slash, path = rest.partition("/")
    host, cut = host.rpartition("@")[2].split("?")[0].split("#")[0], "?" in host or "#" in host
    _, colon, port = host.partition("]" if host.startswith("[") else ":")
    if colon and port.strip(":") and not port.strip(":").isdecimal():  # a password with a slash in it, not a port
        return f"{scheme}://..."
    return f"{scheme}://{host}" + ("" if cut else slash + path.split("?")[0].split("#")[0])


def open_http(url: str, start: int, validator: str, timeout: float, handlers: Sequence[type[urllib.request.BaseHandler]]) -> Stream:
    """Opens a file by GET, with Range and If-Range where it starts in the middle; a server that ignores them starts at 0.

    handlers: further ones of the request and its redirects.
    """
    request = _request(url)
    if start:
        request.add_header("Range", f"bytes={start}-")
        if validator:
            request.add_header("If-Range", validator)
    try:
        answer = urllib.request.build_opener(Redirects, *handlers).open(request, timeout=timeout)
    except urllib.error.HTTPError as error:
        with error:
            _explain_status(error.code, error.headers.get("Retry-After", ""), url)
    except (OSError, HTTPException, ValueError) as error:
        _explain(error, url)
    try:
        return _stream(answer, start, validator, url)
    except ValueError:  # a number of thousands of digits
        answer.close()
        raise UserError("the server says no length that can be read", redacted(url)) from None
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
            return answer.read1(size)  # what has come: of a server that sends a byte a second, read would wait for all of size
        except (OSError, HTTPException) as error:
            _explain(error, url)

    return Stream(began, total, tag, read, answer.close)


class Redirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects by HTTP, but never from https to something weaker."""

    def redirect_request(self, request, file, code, message, headers, target):
        if request.full_url.startswith("https:") and not target.startswith("https:"):
            raise UserError("redirects to an address without encryption", redacted(request.full_url), "https://")
        if not target.startswith(("http:", "https:")):  # urllib would follow ftp as well, past the handlers of http
            raise UserError("redirects to an address of another kind", redacted(request.full_url), "https:// or http://")
        return super().redirect_request(request, file, code, message, headers, target)


def _request(url: str) -> urllib.request.Request:
    """Builds a GET; the password, from the address or ~/.netrc, goes into a header that redirects drop."""
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
    """Returns user:password of a host that ~/.netrc (or the file NETRC) names, else ""."""
    with suppress(OSError, netrc.NetrcParseError):
        login = netrc.netrc(os.environ.get("NETRC")).hosts.get(host.partition(":")[0])
        return f"{login[0]}:{login[2]}" if login else ""
    return ""


def open_local(url: str, start: int, validator: str) -> Stream:
    """Opens a local file by its path or as file://. Raises Changed where its time or size differs."""
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
    """Returns the whole size from "bytes 5-9/10", or from the length of the range; raises Changed for another range than requested."""
    span, _, total = header.removeprefix("bytes").strip().partition("/")
    if span.partition("-")[0] != str(start):
        raise Changed
    return int(total) if total.isdecimal() else length and start + length


def _explain_status(status: int, wait: str, url: str) -> Never:
    if status in (412, 416):
        raise Changed
    if status in RETRYABLE:
        raise Broken(f"the server answered HTTP {status}", float(wait) if wait.isdecimal() else 0.0)
    raise UserError(REFUSALS.get(status, f"the server answered HTTP {status}"), redacted(url), fix=MIRROR)


def _explain(error: Exception, url: str) -> Never:
    """Raises a lost connection as Broken and every other error as UserError; quotes no secret of an address."""
    host = redacted(url).split("/")[2]
    reason = error.reason if isinstance(error, urllib.error.URLError) and isinstance(error.reason, Exception) else error
    if isinstance(reason, ssl.SSLCertVerificationError):
        raise UserError(f"the certificate of {host} is not trusted ({reason.verify_message})", redacted(url)) from None
    if isinstance(reason, socket.gaierror):
        raise Broken(f"the host {host} cannot be found (no network?)") from None
    if isinstance(reason, TimeoutError):
        raise Broken(f"the host {host} is silent") from None
    if isinstance(reason, OSError):
        raise Broken(f"the connection to {host} broke ({reason.strerror or type(reason).__name__})") from None
    if isinstance(reason, HTTPException) and not isinstance(reason, InvalidURL):
        raise Broken(f"the connection to {host} broke ({type(reason).__name__})") from None
    raise UserError("is not an address that can be fetched", redacted(url), "https://host/path") from None


SCHEMES = ("http", "https", "s3")


def is_remote(url: object) -> bool:
    """Whether an address is fetched over a network, not a local path."""
    return str(url).startswith(tuple(f"{scheme}://" for scheme in SCHEMES))


class Remote:
    """Opens addresses. endpoint: of an S3-compatible service; "" = from the environment and ~/.aws. timeout: seconds of silence.

    handlers: of requests by HTTP, as ``open_http`` takes them.
    """

    def __init__(self, endpoint: str = "", timeout: float = 30.0, handlers: Sequence[type[urllib.request.BaseHandler]] = ()):
        self.endpoint, self.timeout, self.handlers = endpoint, timeout, handlers
        self._client, self._lock = None, threading.Lock()

    def open(self, url: str, start: int = 0, validator: str = "") -> Stream:
        """Opens the file from byte ``start`` on, or from 0 where the server cannot do that.

        Raises Changed where ``validator`` (of an earlier stream) shows another file; Broken; UserError.
        """
        if url.startswith("s3://"):
            return self._s3(url, start, validator)
        if is_remote(url):
            return open_http(url, start, validator, self.timeout, self.handlers)
        if "://" in url and not url.startswith("file://"):
            raise UserError("addresses of this scheme cannot be fetched", redacted(url), "https://, http://, s3:// or a local path")
        return open_local(url, start, validator)

    def list(self, url: str) -> dict[str, tuple[int, str]]:
        """Lists the files under s3://bucket/folder: {relative name: (bytes, validator)}; empty where there are none."""
        bucket, prefix = bucket_and_key(url)
        prefix = prefix and prefix.rstrip("/") + "/"
        with ExplainedS3(url, self):
            pages = self.client().get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
            items = [item for page in pages for item in page.get("Contents", ())]
        return {item["Key"][len(prefix):]: (item["Size"], item["ETag"]) for item in items if not item["Key"].endswith("/")}

    def client(self) -> Any:
        """Returns the S3 client, built at its first use; requests are unsigned where there are no credentials."""
        with self._lock:
            if self._client is None:
                self._client = self._build_client()
            return self._client

    def _build_client(self) -> Any:
        try:
            import boto3
            from botocore import UNSIGNED
            from botocore.config import Config
            from botocore.exceptions import BotoCoreError
        except ImportError:
            raise UserError("boto3, which speaks to S3, is not installed", "s3://", fix='pip install "boto3>=1.36"') from None
        try:
            session = boto3.session.Session()
            unsigned = {} if session.get_credentials() else {"signature_version": UNSIGNED}
            config = Config(connect_timeout=self.timeout, read_timeout=self.timeout, retries={"total_max_attempts": 1},
                            max_pool_connections=64, response_checksum_validation="when_required", **unsigned)
            return session.client("s3", endpoint_url=self.endpoint or None, config=config)
        except (BotoCoreError, ValueError) as error:  # the text of a ValueError holds the endpoint, which can hold a password
            raise UserError(f"the settings of S3 cannot be used ({type(error).__name__})", "environment, ~/.aws, endpoint",
                            "a profile that exists, an endpoint such as https://host:9000") from None

    def _s3(self, url: str, start: int, validator: str) -> Stream:
        bucket, key = bucket_and_key(url)
        if not key:
            raise UserError("names a bucket, not a file", redacted(url), "s3://bucket/path/of/the/file")
        options = {"Range": f"bytes={start}-"} if start else {}
        if start and validator:
            options["IfMatch"] = validator
        errors = ExplainedS3(url, self)
        with errors:
            answer = self.client().get_object(Bucket=bucket, Key=key, **options)
        total, body = answer["ContentLength"], answer["Body"]
        if start:
            try:
                total = check_range(answer.get("ContentRange", ""), start, total)
            except Changed:  # a service that ignores the range
                body.close()
                raise

        def read(size: int) -> bytes:
            with errors:
                return body.read(size)

        return Stream(start, total, answer.get("ETag", ""), read, body.close)


class ExplainedS3:
    """Turns boto3's exceptions into ours, and quotes their codes only, for their texts can hold keys."""

    def __init__(self, url: str, remote: Remote):
        self.where, self.remote = redacted(url), remote

    def __enter__(self) -> None:
        self.remote.client()  # raises UserError where boto3 is missing

    def __exit__(self, error_type: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        from boto3.exceptions import Boto3Error
        from botocore.exceptions import BotoCoreError, ClientError, EndpointConnectionError
        met = error.__context__ if isinstance(error, Boto3Error) else None  # by an upload in parts
        error, error_type = (error, error_type) if met is None else (met, type(met))
        if isinstance(error, ClientError):
            raise self._answered(error) from None
        if isinstance(error, EndpointConnectionError):
            raise Broken("the S3 endpoint cannot be reached (no network, or a wrong endpoint?)") from None
        if isinstance(error, BotoCoreError):
            name = type(error).__name__
            if "Credential" in name or "Token" in name or "Config" in name:
                raise UserError(f"the S3 credentials cannot be used ({name})", self.where,
                                fix="look at the environment and ~/.aws") from None
            if "ParamValidation" in name or "Invalid" in name:
                raise UserError(f"is no valid address of a file ({name})", self.where, "s3://bucket/path") from None
            raise Broken(f"the connection to the S3 service broke ({name})") from None
        if error_type is not None and (issubclass(error_type, (OSError, HTTPException)) or error_type.__module__.startswith("urllib3.")):
            raise Broken(f"the connection to the S3 service broke ({error_type.__name__})") from None

    def _answered(self, error: Any) -> Exception:
        code = str(error.response.get("Error", {}).get("Code", ""))
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        if status in (412, 416):
            return Changed()
        if status in RETRYABLE or code in ("SlowDown", "RequestTimeout"):
            return Broken(f"the S3 service answered {status} {code}")
        if code == "NoSuchBucket":
            return UserError("there is no such bucket", self.where, fix="look at the address and at the endpoint")
        return UserError(f"{REFUSALS.get(status, f'the S3 service answered {status}')}, {code}", self.where, fix=(
            "look at the credentials (environment, ~/.aws) and the endpoint" if status in (400, 401, 403) else MIRROR))


def bucket_and_key(url: str) -> tuple[str, str]:
    """Returns (bucket, key) of s3://bucket/key."""
    bucket, _, key = url.removeprefix("s3://").partition("/")
    return bucket, key

"""Opening addresses, http(s)://, s3:// or a local path, as streams that can start in the middle.

    stream = Remote(endpoint="https://minio.example").open("s3://bucket/data.tar", start=1_000_000, validator=seen_before)

S3 goes through boto3: bucket from the address; endpoint, region and credentials from the usual places (environment, ~/.aws).
Credentials appear in no message.
"""

import threading
from http.client import HTTPException
from types import TracebackType
from typing import Any

from kaleidobert.errors import UserError
from kaleidobert.remote.streams import AGAIN, MIRROR, REFUSALS, Broken, Changed, Stream, check_range, open_http, open_local, shown

SCHEMES = ("http", "https", "s3")


def is_remote(url: object) -> bool:
    """Whether it is an address that is fetched over a network, not a local path."""
    return str(url).startswith(tuple(f"{scheme}://" for scheme in SCHEMES))


class Remote:
    """Opens addresses. endpoint: of an S3-compatible service; "" = as the environment and ~/.aws say. timeout: seconds of silence."""

    def __init__(self, endpoint: str = "", timeout: float = 30.0):
        self.endpoint, self.timeout = endpoint, timeout
        self._client, self._lock = None, threading.Lock()

    def open(self, url: str, start: int = 0, validator: str = "") -> Stream:
        """The file from byte ``start`` on, or from 0 where the server cannot do that.

        Raises Changed where ``validator`` (of an earlier stream) shows that it is another file by now; Broken; UserError.
        """
        if url.startswith("s3://"):
            return self._s3(url, start, validator)
        if is_remote(url):
            return open_http(url, start, validator, self.timeout)
        if "://" in url and not url.startswith("file://"):
            raise UserError("addresses of this kind cannot be fetched", shown(url), "https://, http://, s3:// or a local path")
        return open_local(url, start, validator)

    def list(self, url: str) -> dict[str, tuple[int, str]]:
        """The files under s3://bucket/folder: relative name -> (bytes, validator); empty where there are none."""
        bucket, prefix = _bucket(url)
        prefix = prefix and prefix.rstrip("/") + "/"
        with _S3Errors(url, self):
            pages = self.client().get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
            found = [item for page in pages for item in page.get("Contents", ())]
        return {item["Key"][len(prefix):]: (item["Size"], item["ETag"]) for item in found if not item["Key"].endswith("/")}

    def client(self) -> Any:
        """The S3 client, built at its first use; requests are unsigned where no credentials are found."""
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
        bucket, key = _bucket(url)
        if not key:
            raise UserError("names a bucket, not a file", shown(url), "s3://bucket/path/of/the/file")
        options = {"Range": f"bytes={start}-"} if start else {}
        if start and validator:
            options["IfMatch"] = validator
        errors = _S3Errors(url, self)
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


class _S3Errors:
    """Turns boto3's exceptions into ours; only their codes are quoted, for their texts can hold keys."""

    def __init__(self, url: str, remote: Remote):
        self.where, self.remote = shown(url), remote

    def __enter__(self) -> None:
        self.remote.client()  # from here on boto3 is there, or its lack was explained

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        from botocore.exceptions import BotoCoreError, ClientError, EndpointConnectionError
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
        if kind is not None and (issubclass(kind, (OSError, HTTPException)) or kind.__module__.startswith("urllib3.")):
            raise Broken(f"the connection to the S3 service broke ({kind.__name__})") from None

    def _answered(self, error: Any) -> Exception:
        code = str(error.response.get("Error", {}).get("Code", ""))
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        if status in (412, 416):
            return Changed()
        if status in AGAIN or code in ("SlowDown", "RequestTimeout"):
            return Broken(f"the S3 service answered {status} {code}")
        if code == "NoSuchBucket":
            return UserError("there is no such bucket", self.where, fix="look at the address and at the endpoint")
        return UserError(f"{REFUSALS.get(status, f'the S3 service answered {status}')}, {code}", self.where, fix=(
            "look at the credentials (environment, ~/.aws) and the endpoint" if status in (400, 401, 403) else MIRROR))


def _bucket(url: str) -> tuple[str, str]:
    bucket, _, key = url.removeprefix("s3://").partition("/")
    return bucket, key

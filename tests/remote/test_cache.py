"""S3 (moto's server on the loopback) and the cache of remote files and folders."""

import random
import subprocess
import sys
from pathlib import Path

import pytest

from kaleidobert.errors import UserError
from kaleidobert.remote import cache, downloads
from kaleidobert.remote.cache import cached
from kaleidobert.remote.downloads import Options, fetch
from kaleidobert.remote.manifests import File
from kaleidobert.remote.streams import Remote
from tests.support.servers import SECRETS, serving

CONTENT = random.Random(1).randbytes(600_000)
FAST = Options(attempts=3, pause=0.001, timeout=5)
pytestmark = pytest.mark.usefixtures("surroundings")


@pytest.fixture
def web():
    with serving() as server:
        yield server


def tree(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# --- S3 -----------------------------------------------------------------------------------------------------------------


def test_files_and_mirrors_of_s3(bucket, tmp_path):
    bucket.put_object(Key="m/deep/a b.bin", Body=CONTENT)
    fetch([File("x", f"s3://{bucket.name}/m/deep/a b.bin", len(CONTENT))], tmp_path / "one", options=FAST)
    fetch([File("deep/a b.bin")], tmp_path / "two", f"s3://{bucket.name}/m/", FAST)
    assert tree(tmp_path / "one") == {"x": CONTENT} and tree(tmp_path / "two") == {"deep/a b.bin": CONTENT}


def test_what_came_of_an_object_is_continued_and_of_a_changed_one_is_not(bucket, tmp_path, monkeypatch):
    key, file = "a.bin", File("a.bin", f"s3://{bucket.name}/a.bin")
    calls, real = [], Remote.open
    monkeypatch.setattr(Remote, "open", lambda self, url, start, tag: (calls.append(start), real(self, url, start, tag))[1])
    write = downloads.PartialFile.write

    def once(held, data):
        write(held, data)
        raise KeyboardInterrupt

    for changed in (False, True):
        bucket.put_object(Key=key, Body=CONTENT)
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(downloads.PartialFile, "write", once)
            fetch([file], tmp_path, options=FAST)
        begun = (tmp_path / ".a.bin.part").stat().st_size
        assert 0 < begun < len(CONTENT)
        calls.clear()
        body = CONTENT[::-1] if changed else CONTENT
        bucket.put_object(Key=key, Body=body)
        fetch([file], tmp_path, options=FAST)
        assert calls == ([begun, 0] if changed else [begun]) and (tmp_path / "a.bin").read_bytes() == body
        (tmp_path / "a.bin").unlink()


def test_s3_connections_that_break(web, tmp_path):
    web.add("bucket/a.bin", CONTENT, "cut 200000", "status 503", "cut 100000", "ok")
    fetch([File("a.bin", "s3://bucket/a.bin")], tmp_path, options=Options(2, 3, 0.001, 5, endpoint=web.url))
    assert (tmp_path / "a.bin").read_bytes() == CONTENT and web.bytes == len(CONTENT)
    assert web.ranges("bucket/a.bin") == ["", "bytes=200000-", "bytes=200000-", "bytes=300000-"]


def test_public_buckets_need_no_credentials_and_the_endpoint_can_be_said(service, bucket, tmp_path, monkeypatch):
    bucket.put_object(Key="a", Body=b"open", ACL="public-read")
    for name in ("AWS_ENDPOINT_URL_S3", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    fetch([File("a", f"s3://{bucket.name}/a")], tmp_path, options=Options(endpoint=service))
    assert (tmp_path / "a").read_bytes() == b"open"


def test_s3_refusals_hold_no_keys(bucket, service, web, tmp_path, monkeypatch):
    def refused(url, message, endpoint=""):
        with pytest.raises(UserError, match=message) as caught:
            fetch([File("x", url, ask="ask Ann")], tmp_path, options=Options(2, 2, 0.001, 5, endpoint))
        assert not any(secret in str(caught.value) for secret in SECRETS)

    web.add("bucket/x", b"", "status 403")
    refused(f"s3://{bucket.name}/none", r"/none: there is no such file \(HTTP 404\), NoSuchKey; to fix: .*mirror=.*; ask Ann")
    refused("s3://nobody-has-this/x", "there is no such bucket")
    refused("s3://bucket/x", r"access is refused \(HTTP 403\).*look at the credentials \(environment, ~/.aws\)", web.url)
    refused("s3://bucket", "names a bucket, not a file")
    refused("s3://a bucket/x", "is no valid address of a file")
    refused("s3://bucket/x", "the S3 endpoint cannot be reached.*tried 2 times", "http://127.0.0.1:1")
    refused("s3://bucket/x", "the settings of S3 cannot be used", f"://{SECRETS[1]}@x")
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    refused("s3://bucket/x", r"the settings of S3 cannot be used \(ProfileNotFound\)")


def test_without_boto3_it_says_so_and_https_still_works(web, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "boto3", None)
    with pytest.raises(UserError, match='boto3.* is not installed; to fix: pip install "boto3'):
        fetch([File("x", "s3://bucket/x")], tmp_path, options=FAST)
    web.add("x", b"1")
    fetch([File("x", f"{web.url}/x")], tmp_path, options=FAST)
    code = "import sys, kaleidobert.app_zoo.fetch, kaleidobert.remote.cache; sys.exit('boto3' in sys.modules or 'keras' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[2]).returncode == 0


# --- the cache ----------------------------------------------------------------------------------------------------------


def test_local_paths_come_back_as_they_are(tmp_path):
    assert cached("bank") == Path("bank") and cached(tmp_path) == tmp_path and not (tmp_path / "cache").exists()


def test_a_file_is_kept_until_it_changes(web):
    for content in (CONTENT, CONTENT, CONTENT[::-1], b""):
        web.add("deep/model.npz", content)
        web.bytes = 0
        path = cached(f"{web.url}/deep/model.npz", FAST)
        assert path.name == "model.npz" and path.read_bytes() == content
    other = web.add("other/model.npz", b"other")
    assert cached(f"{web.url}/other/model.npz", FAST).read_bytes() == other and path.read_bytes() == b""


def test_without_network_the_copy_is_used_and_without_a_copy_it_is_said(web, capsys):
    web.add("a.bin", CONTENT, "ok", "ok", "status 503")
    first = cached(f"{web.url}/a.bin", FAST)
    assert cached(f"{web.url}/a.bin", FAST) == first and first.read_bytes() == CONTENT
    assert "HTTP 503; the copy in" in capsys.readouterr().err
    first.write_bytes(CONTENT[:100])  # somebody damaged it
    with pytest.raises(UserError, match=r"a\.bin: the server answered HTTP 503, and there is no copy here"):
        cached(f"{web.url}/a.bin", FAST)
    web.plan["/a.bin"] = ["ok"]
    assert cached(f"{web.url}/a.bin", FAST).read_bytes() == CONTENT
    with pytest.raises(UserError, match="HTTP 404"):
        cached(f"{web.url}/none", FAST)


def test_a_folder_of_s3_follows_the_bucket(bucket, monkeypatch):
    files = {"index.json": b"1", "deep/a.npy": CONTENT, "deep/b.npy": b"b", ".hidden": b"h"}
    for name, content in files.items():
        bucket.put_object(Key=f"banks/mine/{name}", Body=content)
    bucket.put_object(Key="banks/mine2/other", Body=b"no part of it")
    url, opened, real = f"s3://{bucket.name}/banks/mine", [], Remote.open
    monkeypatch.setattr(Remote, "open", lambda self, url, *rest: (opened.append(url.rpartition("mine/")[2]), real(self, url, *rest))[1])
    place = cached(url, FAST)
    assert place.name == "mine" and tree(place) == files
    opened.clear()
    assert cached(url + "/", FAST) == place and opened == []
    kept = (place / "deep/a.npy").stat().st_ino
    bucket.put_object(Key="banks/mine/deep/b.npy", Body=b"changed")
    bucket.Object("banks/mine/index.json").delete()
    bucket.put_object(Key="banks/mine/new", Body=b"new")
    assert tree(cached(url, FAST)) == {"deep/a.npy": CONTENT, "deep/b.npy": b"changed", ".hidden": b"h", "new": b"new"}
    assert sorted(opened) == ["deep/b.npy", "new"] and (place / "deep/a.npy").stat().st_ino == kept
    (place / "new").unlink()  # somebody damaged it
    assert tree(cached(url, FAST))["new"] == b"new"
    with pytest.raises(UserError, match="there is no such folder, or it is empty"):
        cached(f"s3://{bucket.name}/banks/none/", FAST)
    assert cached(f"s3://{bucket.name}/banks/mine2/other", FAST).read_bytes() == b"no part of it"


def test_an_interrupted_folder_is_never_seen_half_and_continues(bucket, monkeypatch, tmp_path):
    for name in "abc":
        bucket.put_object(Key=f"f/{name}", Body=name.encode() * 1000)
    url, finish, finished = f"s3://{bucket.name}/f/", downloads.PartialFile.finish, []

    def second(held):
        finished.append(held.target.name)
        if len(finished) == 2:
            raise KeyboardInterrupt
        finish(held)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(downloads.PartialFile, "finish", second)
        cached(url, Options(1))
    assert not list((tmp_path / "cache").glob("*/f"))
    bucket.put_object(Key=f"f/{finished[0]}", Body=b"changed meanwhile")
    wanted = {name: name.encode() * 1000 for name in "abc"} | {finished[0]: b"changed meanwhile"}
    assert tree(cached(url, Options(1))) == wanted


def test_a_folder_of_the_web_is_what_its_manifest_names(web):
    web.add("bank/manifest.json", b'{"files": [{"name": "a", "size": 1}, {"name": "deep/b"}]}')
    web.add("bank/a", b"1")
    web.add("bank/deep/b", b"22")
    assert tree(cached(f"{web.url}/bank/", FAST)) == {"a": b"1", "deep/b": b"22"}
    web.add("bank/manifest.json", b'{"files": [{"name": "../../a"}]}')
    with pytest.raises(UserError, match="leads out of the folder"):
        cached(f"{web.url}/bank/", FAST)


def test_a_manifest_of_any_size_is_not_read_and_one_cut_off_is_fetched_again(web, monkeypatch):
    whole = web.add("bank/manifest.json", b'{"files": [{"name": "a"}]}' + b" " * 3000, "cut 100", "ok")
    web.add("bank/a", b"1")
    assert tree(cached(f"{web.url}/bank/", FAST)) == {"a": b"1"}
    monkeypatch.setattr(cache, "MAX_MANIFEST", 1000)
    web.bytes = 0
    with pytest.raises(UserError, match="manifest.json: the manifest has more than 1,000 bytes"):
        cached(f"{web.url}/bank/", FAST)
    monkeypatch.setattr(cache, "MAX_MANIFEST", len(whole))
    assert tree(cached(f"{web.url}/bank/", FAST)) == {"a": b"1"}


def test_a_file_that_is_named_as_the_note_beside_it(web):
    for content in (b"1", b"1", b"22"):
        web.add("deep/kept.json", content)
        assert cached(f"{web.url}/deep/kept.json", FAST).read_bytes() == content
    with pytest.raises(UserError, match="names no file"):
        cached(f"{web.url}/.", FAST)


def test_keys_that_lead_out_of_the_cache_are_refused(bucket):
    bucket.put_object(Key="f/../../x", Body=b"1")
    with pytest.raises(UserError, match="leads out of the folder"):
        cached(f"s3://{bucket.name}/f/", FAST)

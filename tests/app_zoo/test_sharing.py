"""``kaleidobert push`` and ``pull``: what arrives is what was sent, byte for byte, and nothing else appears."""

import contextlib
import io as streams
import json
import shutil
from pathlib import Path

import pytest

from kaleidobert import cli, io
from kaleidobert.app_zoo import push
from tests.support import hub
from tests.support.apps_data import Done
from tests.support.servers import serving

CARD = "---\nlicense: mit\n---\n# a run\n"
SENT = {"best.npz": b"weights" * 1000, "config.yaml": b"run: runs/a\n", "results.json": b"{}\n", "MODEL_CARD.md": CARD.encode(),
        "dual_encoder/best.npz": b"towers"}


@pytest.fixture
def run(tmp_path) -> Path:
    """What a finished training leaves."""
    for name, content in {**SENT, "last.npz": b"state", ".lock": b"", "tensorboard/events": b"curves",
                          "dual_encoder/last.npz": b"state of the towers"}.items():
        path = tmp_path / "runs/a" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return tmp_path / "runs/a"


def told(*words) -> Done:
    """The command line in this process."""
    out, err = streams.StringIO(), streams.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        status = cli.main([str(word) for word in words])
    return Done(status, out.getvalue(), err.getvalue())


def content(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def check(folder: Path) -> None:
    """A pulled run: what was sent, and its manifest."""
    found = content(folder)
    assert {row["name"] for row in json.loads(found.pop("manifest.json"))["files"]} == set(SENT) and found == SENT
    assert not [path for path in folder.parent.iterdir() if path.name.startswith(".")]


def test_a_folder_holds_a_copy_that_is_checked(run, tmp_path):
    done = told("push", run, tmp_path / "there")
    assert done.status == 0 and "run: 5 files" in done.out and "of which 0 were there" in done.out, done.err
    assert (tmp_path / "there/README.md").read_text() == CARD
    done = told("pull", tmp_path / "there", tmp_path / "here/b")
    assert done.status == 0 and "each as its SHA-256 says" in done.out, done.err
    check(tmp_path / "here/b")
    refused = told("pull", tmp_path / "there", tmp_path / "here/b")
    assert refused.status == 2 and "this is there already" in refused.err


def test_a_second_push_sends_what_is_new(run, tmp_path):
    assert told("push", run, tmp_path / "there").status == 0
    before = {path.name: path.stat().st_ino for path in (tmp_path / "there").iterdir()}
    (run / "results.json").write_text('{"better": 1}\n')
    done = told("push", run, tmp_path / "there")
    assert done.status == 0 and "of which 4 were there" in done.out
    after = {path.name: path.stat().st_ino for path in (tmp_path / "there").iterdir()}
    assert {name for name in after if after[name] != before[name]} == {"results.json", "README.md", "manifest.json"}
    assert told("pull", tmp_path / "there", tmp_path / "c").status == 0 and (tmp_path / "c/results.json").read_text() == '{"better": 1}\n'


def test_s3(run, tmp_path, bucket):
    address = f"s3://{bucket.name}/models/a"
    done = told("push", run, address)
    assert done.status == 0, done.err
    assert {item.key for item in bucket.objects.all()} == {f"models/a/{name}" for name in (*SENT, "README.md", "manifest.json")}
    assert told("push", run, address).out.count("of which 5 were there") == 1
    done = told("pull", address, tmp_path / "b")
    assert done.status == 0, done.err
    check(tmp_path / "b")
    refused = told("push", run, "s3://nobody-has-this/a")
    assert refused.status == 2 and "there is no such bucket" in refused.err
    refused = told("push", run, f"s3://{bucket.name}")
    assert refused.status == 2 and "no folder in it" in refused.err


def test_what_was_damaged_on_the_way_does_not_appear(run, tmp_path):
    assert told("push", run, tmp_path / "there").status == 0
    (tmp_path / "there/best.npz").write_bytes(b"weights" * 999 + b"WEIGHTS")
    refused = told("pull", tmp_path / "there", tmp_path / "b")
    assert refused.status == 2 and "SHA-256" in refused.err and "best.npz" in refused.err and not (tmp_path / "b").exists()
    shutil.copy(run / "best.npz", tmp_path / "there/best.npz")
    (tmp_path / ".b.pull/config.yaml").write_text("damaged here")
    (tmp_path / ".b.pull/more.txt").write_text("of another time")
    assert told("pull", tmp_path / "there", tmp_path / "b").status == 0  # goes on with what is there
    check(tmp_path / "b")


def test_an_interrupted_push_names_nothing_that_is_not_there(run, tmp_path, monkeypatch):
    atomic = io.atomic

    def breaks(path):
        if Path(path).name == "results.json":
            raise KeyboardInterrupt
        return atomic(path)

    monkeypatch.setattr(io, "atomic", breaks)
    assert told("push", run, tmp_path / "there").status == 130
    refused = told("pull", tmp_path / "there", tmp_path / "b")
    assert refused.status == 2 and "has not ended" in refused.err and not (tmp_path / "b").exists()
    monkeypatch.undo()
    assert told("push", run, tmp_path / "there").status == 0 and told("pull", tmp_path / "there", tmp_path / "b").status == 0
    check(tmp_path / "b")


def test_an_interrupted_second_push_leaves_no_mixture(run, tmp_path, monkeypatch):
    atomic = io.atomic
    assert told("push", run, tmp_path / "there").status == 0
    for name in ("best.npz", "results.json"):
        (run / name).write_text("of another training")

    def breaks(path):
        if Path(path).name == "results.json":
            raise KeyboardInterrupt
        return atomic(path)

    monkeypatch.setattr(io, "atomic", breaks)
    assert told("push", run, tmp_path / "there", "workers=1").status == 130
    monkeypatch.undo()
    refused = told("pull", tmp_path / "there", tmp_path / "b")
    assert refused.status == 2 and "has not ended" in refused.err and not (tmp_path / "b").exists()
    for name in ("best.npz", "results.json"):
        (run / name).write_bytes(SENT[name])
    done = told("push", run, tmp_path / "there")  # what the first push sent is there no more
    assert done.status == 0 and "of which 3 were there" in done.out and told("pull", tmp_path / "there", tmp_path / "b").status == 0
    check(tmp_path / "b")


def test_a_copy_overwrites_nothing_of_others(run, tmp_path):
    other = tmp_path / "runs/b"
    other.mkdir()
    (other / "best.npz").write_text("weeks of training")
    refused = told("push", run, other)
    assert refused.status == 2 and "best.npz is there already" in refused.err and "delete" in refused.err
    for target in (run, run / "copy"):
        refused = told("push", run, target)
        assert refused.status == 2 and "the copy would lie in what it is a copy of" in refused.err
    assert content(other) == {"best.npz": b"weeks of training"} and not (run / "manifest.json").exists()


def test_a_copy_of_which_a_file_was_deleted_is_mended(run, tmp_path):
    assert told("push", run, tmp_path / "there").status == 0
    (tmp_path / "there/best.npz").unlink()
    assert "of which 4 were there" in told("push", run, tmp_path / "there").out
    assert told("pull", tmp_path / "there", tmp_path / "b").status == 0
    check(tmp_path / "b")


def test_what_cannot_arrive_is_refused(run, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/rows.npy").write_text("rows")
    for name, leads_to, message in (("more", "elsewhere", "leads to a folder"), ("lost", "nowhere", "leads to nothing")):
        (run / name).symlink_to(tmp_path / leads_to)
        refused = told("push", run, tmp_path / "there")
        assert refused.status == 2 and message in refused.err and not (tmp_path / "there").exists()
        (run / name).unlink()
    (run / "a\\b.txt").write_text("a name of Windows")
    refused = told("push", run, tmp_path / "there")
    assert refused.status == 2 and "cannot be pulled" in refused.err and "rename it" in refused.err


def test_a_file_that_changes_on_the_way_is_told(run, tmp_path, monkeypatch):
    hashed = push.sha256

    def trains(path):
        digest = hashed(path)
        if path.name == "best.npz" and path.parent == run:
            path.write_bytes(b"better weights")
        return digest

    monkeypatch.setattr(push, "sha256", trains)
    refused = told("push", run, tmp_path / "there")
    assert refused.status == 2 and "changed while it was copied" in refused.err
    assert "has not ended" in told("pull", tmp_path / "there", tmp_path / "b").err


def test_a_killed_pull_leaves_no_old_manifest_behind(run, tmp_path):
    assert told("push", run, tmp_path / "there").status == 0
    (tmp_path / ".b.manifest").mkdir()
    (tmp_path / ".b.manifest/manifest.json").write_text(push.manifest("run", []))
    assert "5 files" in told("pull", tmp_path / "there", tmp_path / "b").out


@pytest.mark.parametrize("name", [".lock", "manifest.json", "a/.lock", "../a", "/a"])
def test_names_that_would_be_written_elsewhere_are_refused(tmp_path, name):
    (tmp_path / "there").mkdir()
    (tmp_path / "there/manifest.json").write_text(push.manifest("run", [push.File(name, size=1, sha256="0" * 64)]))
    refused = told("pull", tmp_path / "there", tmp_path / "b")
    assert refused.status == 2 and ("leads out" in refused.err or "none that" in refused.err), refused.err
    assert [path.name for path in tmp_path.iterdir()] == ["there"]


def test_a_bank_and_an_index(tmp_path):
    for what, names in (("bank", ("index.json", "table.jsonl", "features-00000.npy", "shards/00000.npz", "work.json")),
                        ("index", ("index.json", "rows-1.npy"))):
        for name in names:
            (tmp_path / what / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / what / name).write_text(name)
        assert push.kind_of(tmp_path / what) == what
        assert told("push", tmp_path / what, tmp_path / f"{what}-there").out.startswith(f"{what}: ")
        assert told("pull", tmp_path / f"{what}-there", tmp_path / f"{what}-here").status == 0
        assert content(tmp_path / f"{what}-here").keys() - {"manifest.json"} == set(names) - {"shards/00000.npz", "work.json"}
    refused = told("push", tmp_path / "bank", tmp_path / "index-there")
    assert refused.status == 2 and "an index is there already" in refused.err


@pytest.mark.parametrize("words, message", [
    (["push", "none", "there"], "there is no such folder"),
    (["push", ".", "there"], "runs/a"),
    (["push", "runs/a", "ftp://host/a"], "addresses of this scheme"),
    (["push", "runs/a", "hf://kaleido"], "names no repository"),
    (["pull", "runs/a", "there"], "manifest.json"),
    (["pull", "listed", "there"], "none that `kaleidobert push` wrote"),
])
def test_bad_words_get_one_message(run, tmp_path, monkeypatch, words, message):
    monkeypatch.chdir(tmp_path)
    Path("listed").mkdir()
    Path("listed/manifest.json").write_text('{"files": [{"name": "a"}]}')
    before = content(tmp_path)
    done = told(*words)
    assert done.status == 2 and message in done.err and "Traceback" not in done.err, done.err
    assert content(tmp_path) == before


def test_dry_runs_write_nothing(run, tmp_path):
    assert told("push", run, tmp_path / "there").status == 0
    before = content(tmp_path)
    done = told("push", run, tmp_path / "elsewhere", "--dry-run")
    assert done.status == 0 and "best.npz" in done.out and "last.npz" not in done.out
    done = told("pull", tmp_path / "there", tmp_path / "b", "--dry-run")
    assert done.status == 0 and "5 files" in done.out and content(tmp_path) == before


@pytest.fixture
def repository(surroundings, tmp_path, monkeypatch):
    """A stand-in for Hugging Face, reached by way of the environment."""
    pytest.importorskip("huggingface_hub", reason="the extra `share` brings it")
    from huggingface_hub import constants

    with serving(hub.Hub) as server:
        monkeypatch.setenv("HF_TOKEN", hub.TOKEN)
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        for name, value in {"HF_HUB_OFFLINE": False, "HF_HUB_DISABLE_XET": True, "HF_HUB_CACHE": str(tmp_path / "hub")}.items():
            monkeypatch.setattr(constants, name, value)
        yield server


def test_a_repository_of_hugging_face(run, tmp_path, repository, monkeypatch):
    address = f"hf://{hub.REPOSITORY}"
    refused = told("pull", address, tmp_path / "b")
    assert refused.status == 2 and "no such repository" in refused.err and not list(tmp_path.glob(".b*"))
    done = told("push", run, address)
    assert done.status == 0, done.err
    assert repository.private is True and repository.commits == 1
    assert repository.files.keys() == {*SENT, "README.md", "manifest.json"} and repository.files["README.md"] == CARD.encode()
    assert "of which 5 were there" in told("push", run, address).out
    done = told("pull", f"{address}@main", tmp_path / "b")
    assert done.status == 0, done.err
    check(tmp_path / "b")
    repository.files["config.yaml"] = b"another: file"
    refused = told("pull", address, tmp_path / "c")
    assert refused.status == 2 and "SHA-256" in refused.err and not (tmp_path / "c").exists()
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:1")
    refused = told("push", run, address)
    assert refused.status == 2 and "cannot be reached" in refused.err and "HF_ENDPOINT" in refused.err
    monkeypatch.setenv("HF_ENDPOINT", repository.url)
    monkeypatch.setenv("HF_TOKEN", "hf_WRONG")
    refused = told("pull", address, tmp_path / "d")
    assert refused.status == 2 and "hf auth login" in refused.err and "hf_WRONG" not in refused.err

"""The timing of records: what it prints and writes, and what it measures."""

import json

from benchmarks import floors, records
from kaleidobert.datasets.sources import reading
from tests.benchmarks.test_benchmarks import check_report
from tests.support.tiny import tiny_catalogue


def test_records_program(capsys, tmp_path, monkeypatch):
    monkeypatch.setattr(floors, "LEAST_SECONDS", 0.001)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    path = tmp_path / "figures.json"
    words = ["--size", "tiny", "--pictures", "6", "--repeats", "1", "--json", str(path), "--processes", "1", "--batch", "2"]
    assert records.main([*words, "encoder.name=pixels", "encoder.size=8", "foreground.method=border"]) == 0
    written, printed = json.loads(path.read_text()), capsys.readouterr().out
    check_report(printed, written, "records", ["encoder alone", "reading and cutting alone"])
    assert [row["work"] for row in written["timings"]] == [6, 6, 6] and written["vectors"] == 74
    assert written["encoder"]["size"] == 8 and written["encoder"]["batch_size"] == 2
    assert 0 <= written["equal_vectors"] < 1 and written["processes"]["1"] > 0
    assert "processes: " in printed and not list(tmp_path.glob("kaleido-benchmark-*"))


def test_a_catalogue_of_one_s_own(capsys, tmp_path, monkeypatch):
    monkeypatch.setattr(floors, "LEAST_SECONDS", 0.001)
    source, seen = tiny_catalogue(tmp_path / "catalogue", 12), []
    monkeypatch.setattr(reading, "read", lambda source, read=reading.read: seen.append(source) or read(source))
    words = ["encoder.name=pixels", "encoder.size=12", f"source.table={source.table}", "source.columns={id: id, image: image, text: text, "
             "view: view, group: id, split: split, mask: , parts: }", "source.columns.labels.category=category",
             "source.columns.labels.subcategory=colour"]
    assert records.main(["--size", "tiny", "--pictures", "3", "--repeats", "1", *words, "foreground.method=none"]) == 0
    assert seen[0].table == source.table and seen[0].limit == 3 and "3 pictures" in capsys.readouterr().out
    for file in (tmp_path / "catalogue").glob("*.png"):
        file.write_bytes(b"")
    assert records.main(["--size", "tiny", "--pictures", "3", *words]) == 2
    assert "no picture can be used" in capsys.readouterr().err

"""Small tables of products as shops export them, and what is read of them."""

import io

import pyarrow as pa
import pyarrow.parquet as pq

from kaleidobert.configs import Columns
from kaleidobert.datasets.sources import reading
from kaleidobert.datasets.sources.table import TableSource

FILES = ("a.jpg", "b.jpg", "c.jpg", "d.jpg", "images/1.jpg", "x/a.jpg")
COLUMNS = Columns("id", "image", ("title",), labels={"category": "kind"})
ROWS = [{"id": str(n), "image": f"{n}.jpg", "title": f"Dr\u00e9ss, {n}", "kind": f"kind{n}"} for n in range(1, 5)]


def survey(tmp_path, data: bytes | str, name: str = "t.csv", columns: Columns | None = COLUMNS, files=(), **options) -> reading.Reading:
    (tmp_path / name).write_bytes(data.encode() if isinstance(data, str) else data)
    for file in files:
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).write_bytes(b"picture")
    return reading.survey(TableSource(tmp_path / name, *([columns] if columns else []), **options))


def text(separator: str = ",", rows=ROWS, first: str = "") -> str:
    cells = [list(rows[0]), *(list(row.values()) for row in rows)]
    quoted = [[f'"{cell}"' if separator in cell else cell for cell in row] for row in cells]
    return first + "".join(separator.join(row) + "\n" for row in quoted)


def is_whole(result: reading.Reading) -> bool:
    return not result.skipped and [(p.product_id, p.text, p.labels["category"]) for p in result.products] == [
        (row["id"], row["title"], row["kind"]) for row in ROWS]


def arrow(stream: bool) -> bytes:
    table, sink = pa.Table.from_pylist(ROWS), io.BytesIO()
    with (pa.ipc.new_stream if stream else pa.ipc.new_file)(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue()


def parquet(rows) -> bytes:
    sink = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), sink)
    return sink.getvalue()

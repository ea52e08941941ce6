"""An object of S3 as a file, whoever reads it and how."""

import io
import os
import threading
from datetime import UTC, datetime

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.problems import BadInput
from lake.storage.s3_reader import S3Files, S3Reader, SharedReader, Tail

NOW = datetime(2026, 1, 2, tzinfo=UTC)


def opened(content: bytes, tail: int = 64 << 10, fetched: list[tuple[int, int]] | None = None) -> S3Reader:
    def fetch(start: int, end: int) -> bytes:
        if fetched is not None:
            fetched.append((start, end))
        assert start < end <= len(content)
        return content[start:end]

    return S3Reader(Tail(content[-tail:] if tail else b"", len(content), '"1"', NOW), fetch)


steps = st.lists(
    st.tuples(st.just("read"), st.integers(-1, 40))
    | st.tuples(st.just("seek"), st.integers(0, 60))
    | st.tuples(st.just("back"), st.integers(0, 20))
    | st.tuples(st.just("on"), st.integers(0, 10))
)


@given(st.binary(max_size=50), st.integers(0, 50), steps)
def test_it_reads_like_a_file_in_memory(content, tail, steps):
    for file in (io.BufferedReader(opened(content, tail), 8), SharedReader(opened(content, tail))):
        model = io.BytesIO(content)
        for step, number in steps:
            match step:
                case "read":
                    assert file.read(number) == model.read(number)
                case "seek":
                    assert file.seek(number) == model.seek(number)
                case "back":
                    end = -min(number, len(content))
                    assert file.seek(end, io.SEEK_END) == model.seek(end, io.SEEK_END)
                case "on":
                    assert file.seek(number, io.SEEK_CUR) == model.seek(number, io.SEEK_CUR)
            assert file.tell() == model.tell()


def test_the_whole_of_it_takes_one_request_besides_the_opening():
    content, fetched = os.urandom(300_000), []
    assert io.BufferedReader(opened(content, fetched=fetched)).read() == content
    assert fetched == [(0, 300_000 - (64 << 10))]


def test_a_footer_takes_none():
    out, fetched = io.BytesIO(), []
    pq.write_table(pa.table({"n": list(range(100_000))}), out)
    assert pq.read_metadata(io.BufferedReader(opened(out.getvalue(), fetched=fetched))).num_rows == 100_000
    assert fetched == []


def test_nothing_is_before_its_begin():
    with pytest.raises(ValueError, match="nothing before"):
        opened(b"x").seek(-1)


def test_each_thread_reads_where_it_sought_whatever_others_do_in_between():
    shared, turns = SharedReader(opened(bytes(range(100)))), [threading.Event() for _ in range(2)]
    read = []

    def other():
        turns[0].wait(10)
        shared.seek(70)
        read.append(shared.read(5))
        turns[1].set()

    thread = threading.Thread(target=other)
    thread.start()
    shared.seek(20)
    turns[0].set()
    turns[1].wait(10)
    assert shared.read(5) == bytes(range(20, 25))
    assert shared.read(5) == bytes(range(25, 30))
    thread.join()
    assert read == [bytes(range(70, 75))]


def test_what_threads_of_duckdb_read_at_the_same_time_is_right():
    out, numbers = io.BytesIO(), range(100_000)
    table = pa.table({"number": list(numbers), "text": [f"{number:x}" * 20 for number in numbers]})
    pq.write_table(table, out, row_group_size=10_000)
    content, pause = out.getvalue(), threading.Event()

    def reader(_name: str) -> S3Reader:
        def fetch(start: int, end: int) -> bytes:
            pause.wait(start % 5 / 1000)  # in which other threads run
            return content[start:end]

        return S3Reader(Tail(content[-(64 << 10) :], len(content), '"1"', NOW), fetch)

    expected = (sum(numbers), sum(len(f"{number:x}") * 20 for number in numbers))
    for _ in range(5):
        with duckdb.connect() as connection:
            connection.execute("SET threads = 8")
            connection.register_filesystem(S3Files("b", reader, lambda _: ["t/a.parquet"]))
            query = "SELECT sum(number), sum(length(text)) FROM read_parquet('s3://b/t/*.parquet')"
            assert connection.execute(query).fetchone() == expected


NAMES = ["t/dt=2026-01-01/1.parquet", "t/dt=2026-01-02/1.parquet", "t/x.parquet", "tt/dt=2026-01-01/1.parquet"]


@pytest.mark.parametrize(
    ("pattern", "asked", "found"),
    [
        ("t/*/*.parquet", "t/", NAMES[:2]),
        ("t/**/*.parquet", "t/", NAMES[:3]),
        ("t/dt=2026-01-0[2-9]/1.parquet", "t/dt=2026-01-0", NAMES[1:2]),
        ("t?/*/*", "t", NAMES[3:]),
        ("none/*", "none/", []),
    ],
)
def test_a_pattern_costs_one_list_and_finds_what_it_means(pattern, asked, found):
    begins = []

    def names(begin):
        begins.append(begin)
        return [name for name in NAMES if name.startswith(begin)]

    files = S3Files("b", opened, names)
    assert files.glob(f"s3://b/{pattern}") == [f"s3://b/{name}" for name in found]
    assert begins == [asked]


def test_only_the_bucket_of_the_lake_is_read_and_nothing_is_written():
    files = S3Files("b", lambda _: opened(b"x"), list)
    with pytest.raises(BadInput, match="not in the lake's bucket"):
        files.open("s3://bb/x")
    with pytest.raises(BadInput, match="cannot be written"):
        files.open("s3://b/x", "wb")

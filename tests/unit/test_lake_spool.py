"""A scratch file on a disk that is full for a while."""

import resource

import pytest
from effort import examples
from hypothesis import given, settings
from hypothesis import strategies as st
from lake_world import a_full_disk

from lake.hot.spool import DamagedError, Spool

WRITES = st.lists(st.tuples(st.binary(max_size=200), st.integers(0, 400) | st.none()), max_size=20)


@given(WRITES)
@settings(deadline=None, max_examples=examples(60))
def test_what_was_written_is_in_the_file_whatever_the_disk_took_when(tmp_path_factory, writes):
    spool = Spool(tmp_path_factory.mktemp("spool") / "file")
    written = b""
    for content, room in writes:
        with a_full_disk(resource.RLIM_INFINITY if room is None else room):
            assert spool.write(content) == len(content)
        written += content
        assert spool.tell() == len(written)
        assert spool.waiting <= len(written)
    spool.finish()
    assert spool.path.read_bytes() == written
    assert spool.waiting == 0


def test_a_file_that_has_no_room_is_not_finished_and_may_be_tried_again(tmp_path):
    spool = Spool(tmp_path / "file")
    with a_full_disk(3):
        spool.write(b"12345")
        for _ in range(2):
            with pytest.raises(OSError, match="File too large"):
                spool.finish()
    assert spool.waiting == 2
    spool.finish()
    spool.finish()
    assert spool.path.read_bytes() == b"12345"


def test_bytes_that_the_disk_took_and_lost_are_not_taken_for_written(tmp_path, monkeypatch):
    def lose(_):
        raise OSError("I/O error")

    spool = Spool(tmp_path / "file")
    spool.write(b"12345")
    monkeypatch.setattr("os.fsync", lose)
    with pytest.raises(DamagedError):
        spool.finish()
    spool.discard()


def test_a_folder_that_is_gone_costs_no_byte_either(tmp_path):
    spool = Spool(tmp_path / "gone" / "file")
    spool.write(b"12345")
    with pytest.raises(FileNotFoundError):
        spool.settle()
    spool.path.parent.mkdir()
    spool.finish()
    assert spool.path.read_bytes() == b"12345"


def test_a_discarded_file_is_gone_and_takes_nothing_more(tmp_path):
    spool = Spool(tmp_path / "file")
    spool.write(b"12345")
    spool.discard()
    assert spool.write(b"6") == 1
    assert (spool.waiting, list(tmp_path.iterdir())) == (0, [])

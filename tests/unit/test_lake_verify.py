"""A lake made by the real sink and compactor, broken file by file: every damage is told, as what it is."""

import shutil
import threading
from dataclasses import replace

import pyarrow as pa
import pytest
from whole_lake import TOPIC, local_lake, record

from connectors.problems import BadInput, Unreachable
from lake.main import compaction
from lake.proof import requarantine, verify, window
from lake.reading import reader_files
from lake.storage.local import LocalStorage

STEP_1_DAY_0 = "main/part/dt=1970-01-01/000000000001-00000.parquet"
STEP_1_DAY_1 = "main/part/dt=1970-01-02/000000000001-00000.parquet"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Two chains, in main by two steps and in hot beyond; offsets 5 and 42 of partition 0 are in quarantine."""
    lake = local_lake(tmp_path_factory.mktemp("made"))
    lake.fill(0, 20, bad=[5])
    lake.fill(0, 10, partition=1)
    lake.compact()
    lake.fill(20, 30)
    lake.compact()
    lake.fill(30, 40)
    lake.fill(40, 50, bad=[42])
    lake.write((1, 20, [record(offset, partition=1) for offset in (12, 15)]))
    return lake.root


@pytest.fixture(params=["one window", "many windows"])
def lake(made, tmp_path, request, monkeypatch):
    """One to break."""
    if request.param == "many windows":
        monkeypatch.setattr(window, "WINDOW_ROWS", 7)
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    return local_lake(tmp_path)


def report(lake):
    return verify.verify(lake.storage, TOPIC)


def found(lake):
    return [(one.kind, one.partition, one.start, one.end, one.count) for one in report(lake).findings]


def about(lake):
    """Findings that concern a file alone: their kinds, each with its file."""
    findings = report(lake).findings
    assert all(one.partition is None and one.count == 1 for one in findings)
    return {(one.kind, one.key) for one in findings}


def key(lake, path):
    return str(path.relative_to(lake.root))


def test_a_whole_lake_has_no_findings_and_is_counted(lake):
    told = report(lake)
    assert told.findings == ()
    assert (told.rows, told.files, told.offsets, told.quarantined, told.lag) == (60, 3 + 3, 70, 2, None)
    assert told.notes == ("3 segments in hot are in main too: nobody reads them there",)


def test_a_segment_that_was_removed_is_a_hole_between_two_files(lake):
    lake.segment(30).unlink()
    assert found(lake) == [("hole", 0, 30, 40, 1)]
    (one,) = report(lake).findings
    assert str(one) == (
        "part[0] epoch first-life, offsets 30 to 39: no segment between "
        f"{key(lake, lake.segment(20))} (next 30) and {key(lake, lake.segment(40))} (start 40)"
    )


def test_a_segment_with_the_name_of_another_place_is_told(lake):
    shutil.copy(lake.segment(30), lake.segment(35))
    assert about(lake) == {("footer", key(lake, lake.segment(35)))}


def test_a_segment_beside_the_chain_is_told(lake):
    shutil.copy(lake.segment(30), lake.segment(35))
    lake.rewrite(lake.segment(35), lambda rows: rows.slice(5), start=35, rows=5)
    assert found(lake) == [("overlap", 0, 35, 40, 1)]


def test_a_segment_that_was_cut_is_unreadable(lake):
    content = lake.segment(30).read_bytes()
    lake.segment(30).write_bytes(content[: len(content) // 2])
    assert about(lake) == {("unreadable", key(lake, lake.segment(30)))}


def test_a_segment_whose_pages_are_damaged_is_unreadable(lake):
    content = bytearray(lake.segment(30).read_bytes())
    content[4 : len(content) // 2] = bytes(len(content) // 2 - 4)
    lake.segment(30).write_bytes(content)
    assert about(lake) == {("unreadable", key(lake, lake.segment(30)))}


@pytest.mark.parametrize(
    "footer", [{"topic_id": "other"}, {"start": 31}, {"next": 30}, {"rows": "many"}, {"quarantined": [77]}]
)
def test_a_segment_with_a_footer_that_cannot_be_is_told(lake, footer):
    lake.rewrite(lake.segment(30), **footer)
    assert about(lake) == {("footer", key(lake, lake.segment(30)))}


def test_a_segment_with_fewer_rows_than_its_footer_says_is_told(lake):
    lake.rewrite(lake.segment(30), lambda rows: rows.slice(2))
    assert found(lake) == [("footer", 0, 30, 40, 2)]


def test_a_next_offset_that_is_too_low_makes_a_hole(lake):
    lake.rewrite(lake.segment(30), lambda rows: rows.slice(0, 8), rows=8, next=38)
    assert found(lake) == [("hole", 0, 38, 40, 1)]


def test_a_next_offset_that_is_too_high_overlaps_what_follows(lake):
    lake.rewrite(lake.segment(30), next=41)
    assert found(lake) == [("overlap", 0, 40, 41, 1)]


def test_rows_of_another_chain_in_a_segment_are_told(lake):
    lake.rewrite(
        lake.segment(30),
        lambda rows: rows.set_column(
            rows.schema.get_field_index("_partition"), "_partition", pa.repeat(pa.scalar(1, pa.int32()), 10)
        ),
        rows=0,
    )
    assert found(lake) == [("footer", None, None, None, 10)]


def test_a_row_that_a_segment_has_twice_is_told(lake):
    lake.rewrite(lake.segment(30), lambda rows: pa.concat_tables([rows, rows.slice(3, 1)]))
    assert found(lake) == [("duplicate", 0, 33, 34, 1)]


def test_a_row_of_a_record_in_quarantine_is_told(lake):
    lake.rewrite(lake.segment(30), quarantined=[34])
    shutil.copy(lake.container(42), lake.container(34))
    assert found(lake) == [("duplicate", 0, 34, 35, 1), ("quarantine", 0, 34, 35, 1)]


@pytest.mark.parametrize("name", ["hot/part/first-life/00000-30.parquet", "hot/part/copy.parquet"])
def test_a_file_in_hot_that_is_no_segment_is_told(lake, name):
    shutil.copy(lake.segment(30), lake.root / name)
    assert about(lake) == {("unknown file", name)}


def test_a_segment_below_the_watermark_that_no_step_took_is_told(lake):
    shutil.copy(lake.segment(0), lake.segment(7))
    assert about(lake) == {("unknown file", key(lake, lake.segment(7)))}


def test_an_output_that_was_removed_is_missing(lake):
    (lake.root / STEP_1_DAY_1).unlink()
    assert about(lake) == {("missing file", STEP_1_DAY_1)}


def test_an_output_that_was_cut_is_damaged(lake):
    content = (lake.root / STEP_1_DAY_0).read_bytes()
    (lake.root / STEP_1_DAY_0).write_bytes(content[:-40])
    assert about(lake) == {("damaged file", STEP_1_DAY_0)}


def test_an_output_that_is_not_the_one_committed_is_damaged(lake):
    lake.rewrite(lake.root / STEP_1_DAY_0, lambda rows: rows.slice(1))
    assert about(lake) == {("damaged file", STEP_1_DAY_0)}


def test_an_output_that_cannot_be_read_for_a_moment_has_no_rows_that_belong_nowhere(lake, monkeypatch):
    opened, reads = lake.storage.open, []

    def fails_first(name):
        if name == STEP_1_DAY_0:
            reads.append(name)
            if len(reads) % 2:
                raise OSError("for a moment")
        return opened(name)

    monkeypatch.setattr(lake.storage, "open", fails_first)
    assert {one.kind for one in report(lake).findings} <= {"damaged file"}


def test_a_file_of_main_that_no_step_made_is_unknown(lake):
    names = {"main/part/dt=1970-01-01/000000000007-00000.parquet", "main/part/dt=1970-01-01/000000000001-00007.parquet"}
    for name in names:
        shutil.copy(lake.root / STEP_1_DAY_0, lake.root / name)
    assert about(lake) == {("unknown file", name) for name in names}


def test_rows_in_the_file_that_is_for_columns_alone_are_told(lake):
    name = reader_files.columns_key(TOPIC)
    shutil.copy(lake.root / STEP_1_DAY_0, lake.root / name)
    assert about(lake) == {("unknown file", name)}


def recommitted(lake, change, path=STEP_1_DAY_0):
    """A file of main changed in a way that its commit agrees with."""
    lake.rewrite(lake.root / path, change)
    commit = compaction.read_commit(lake.storage, TOPIC, 1)
    size = (lake.root / path).stat().st_size
    lake.commit(
        replace(commit, outputs=tuple(replace(one, bytes=size) if one.key == path else one for one in commit.outputs))
    )


def with_offset(rows, offset):
    """The row of offset 3 of partition 0 becomes that of another one."""
    places = zip(rows["_partition"].to_pylist(), rows["_offset"].to_pylist(), strict=True)
    offsets = [offset if place == (0, 3) else place[1] for place in places]
    return rows.set_column(rows.schema.get_field_index("_offset"), "_offset", pa.array(offsets, pa.int64()))


def test_a_row_that_is_twice_in_main_is_told(lake):
    recommitted(lake, lambda rows: with_offset(rows, 4))
    assert found(lake) == [("duplicate", 0, 4, 5, 1), ("row count", 0, 0, 20, 1)]


def test_a_row_of_main_that_is_of_no_input_is_told(lake):
    recommitted(lake, lambda rows: with_offset(rows, 1000))
    assert found(lake) == [("row count", 0, 0, 20, 1), ("outside", None, None, None, 1)]


def test_a_row_of_main_that_lies_above_the_watermark_is_told(lake):
    recommitted(lake, lambda rows: with_offset(rows, 33))
    assert found(lake) == [("row count", 0, 0, 20, 1), ("outside", None, None, None, 1)]


def test_rows_in_the_folder_of_another_date_are_told(lake):
    moved = STEP_1_DAY_1.replace("1970-01-02", "1970-01-07")
    (lake.root / moved).parent.mkdir()
    (lake.root / STEP_1_DAY_1).rename(lake.root / moved)
    commit = compaction.read_commit(lake.storage, TOPIC, 1)
    lake.commit(
        replace(commit, outputs=tuple(replace(o, key=moved) if o.key == STEP_1_DAY_1 else o for o in commit.outputs))
    )
    assert found(lake) == [("wrong date", 0, 10, 11, 10)]


@pytest.mark.parametrize("name", [compaction.commit_key(TOPIC, 1), compaction.intent_key(TOPIC, 1)])
@pytest.mark.parametrize("how", ["missing", "unreadable"])
def test_a_missing_or_unreadable_record_of_the_compactor_is_told(lake, name, how):
    (lake.root / name).unlink() if how == "missing" else (lake.root / name).write_text('{"format": 1')
    assert about(lake) == {("record", name)}


def test_an_intent_ahead_of_its_turn_is_told(lake):
    name = compaction.intent_key(TOPIC, 4)
    shutil.copy(lake.root / compaction.intent_key(TOPIC, 2), lake.root / name)
    assert about(lake) == {("record", name)}


def test_a_watermark_that_its_inputs_do_not_reach_is_told(lake):
    lake.change_commit(2, watermarks={("first-life", 0): 30, ("first-life", 1): 12})
    assert ("watermark", 1, 10, 12, 1) in found(lake)


def test_steps_whose_inputs_do_not_follow_each_other_have_a_hole(lake):
    lake.change_commit(1, watermarks={("first-life", 0): 20, ("first-life", 1): 10})
    intent = compaction.read_intent(lake.storage, TOPIC, 2)
    (lake.root / compaction.intent_key(TOPIC, 2)).write_bytes(
        compaction.encode_intent(replace(intent, inputs=(replace(intent.inputs[0], start=22),)))
    )
    assert ("hole", 0, 20, 22, 1) in found(lake)


def test_a_commit_whose_files_have_not_the_rows_of_its_inputs_is_told(lake):
    intent = compaction.read_intent(lake.storage, TOPIC, 2)
    (lake.root / compaction.intent_key(TOPIC, 2)).write_bytes(
        compaction.encode_intent(replace(intent, inputs=(replace(intent.inputs[0], rows=12),)))
    )
    assert found(lake) == [("row count", None, None, None, 2), ("row count", 0, 20, 30, 2)]


@pytest.mark.parametrize("offset", [5, 42])
@pytest.mark.parametrize("how", ["missing", "cut", "another"])
def test_a_quarantined_record_without_its_container_is_told(lake, offset, how):
    path = lake.container(offset)
    content = path.read_bytes()
    path.unlink()
    if how == "cut":
        path.write_bytes(content[:-20])
    if how == "another":
        shutil.copy(lake.container(47 - offset), path)
    assert found(lake) == [("quarantine", 0, offset, offset + 1, 1)]


def test_containers_of_no_segment_are_harmless_and_told(lake):
    shutil.copy(lake.container(5), lake.container(33))
    told = report(lake)
    assert told.findings == ()
    assert told.notes[-1].startswith("1 containers in quarantine are of no segment")


def test_a_step_that_is_not_finished_is_no_finding(lake):
    lake.begin_step()
    told = report(lake)
    assert (told.findings, told.rows, told.files) == ((), 60, 6)
    assert told.notes[-1].startswith("step 3 of the compactor is not finished")


def test_segments_that_the_compactor_has_removed_are_not_missed_but_the_last_of_a_chain_is(tmp_path):
    lake = local_lake(tmp_path)
    lake.fill(0, 10)
    lake.fill(10, 20)
    lake.compact()
    lake.segment(0).unlink()
    assert report(lake).findings == ()
    lake.segment(10).unlink()
    assert [(one.kind, one.key) for one in report(lake).findings] == [("no end", key(lake, lake.segment(10)))]


def test_each_life_of_a_topic_is_a_chain_of_its_own(lake):
    lake.epoch = "second-life"
    lake.fill(0, 10)
    lake.fill(10, 20)
    assert report(lake).findings == ()
    lake.compact()
    assert (report(lake).findings, report(lake).rows) == ((), 80)
    (lake.root / f"main/part/dt=1970-01-02/{3:012d}-00000.parquet").unlink()
    assert [one.kind for one in report(lake).findings] == ["missing file"]


def decodable(lake):
    """The containers hold bytes now that decode."""
    from fastavro import reader, writer

    for offset in (5, 42):
        with lake.container(offset).open("rb") as file:
            found = reader(file)
            content, schema = list(found), found.writer_schema
        content[0]["value"] = b""
        with lake.container(offset).open("wb") as file:
            writer(file, schema, content)


def test_rows_made_of_quarantined_records_are_counted_and_each_must_be_there_once(lake):
    decodable(lake)
    requarantine.requarantine(lake.storage, lake.event)
    (path,) = lake.files("requarantined/part/*")
    told = report(lake)
    assert (told.findings, told.requarantined, told.quarantined, told.rows) == ((), 2, 2, 60)
    shutil.copy(path, path.with_name(f"{2:012d}.parquet"))
    assert found(lake) == [("requarantined", 0, 5, 6, 2)]
    path.unlink()
    assert about(lake) == {("requarantined", f"requarantined/part/{2:012d}.parquet")}


def test_a_row_made_of_a_record_that_is_not_in_quarantine_is_told(lake):
    (lake.root / "requarantined/part").mkdir(parents=True)
    shutil.copy(lake.segment(30), lake.root / f"requarantined/part/{1:012d}.parquet")
    assert found(lake) == [("requarantined", 0, 30, 31, 10)]


def test_what_only_the_first_look_sees_is_not_told(lake):
    class Late(LocalStorage):
        hidden = True

        def keys(self, prefix):
            there = super().keys(prefix)
            if prefix == f"hot/{TOPIC}" and self.hidden:  # as a listing that began before the file was there
                self.hidden = False
                there.remove(key(lake, lake.segment(30)))
            return there

    assert verify.verify(Late(lake.root), TOPIC).findings == ()


@pytest.mark.parametrize(
    "prefix",
    ["hot/", "main/", "quarantine/", "requarantined/", "_lake/compaction/", "_lake/compaction/part/000000000002.c"],
)
def test_a_storage_that_goes_away_is_unreachable_and_no_finding(lake, prefix):
    decodable(lake)
    requarantine.requarantine(lake.storage, lake.event)

    class Away(LocalStorage):
        def open(self, key):
            if key.startswith(prefix):
                raise Unreachable("the storage is away")
            return super().open(key)

    with pytest.raises(Unreachable, match="is away"):
        verify.verify(Away(lake.root), TOPIC)


def test_a_lake_at_work_is_whole_at_every_moment(tmp_path):
    lake, failures = local_lake(tmp_path), []

    def work():
        try:
            for number in range(24):
                lake.fill(number * 10, number * 10 + 10, bad=[number * 10 + 1])
                if number % 4 == 3:
                    lake.compact()
        except BaseException as error:  # told by the test
            failures.append(error)
            raise

    worker = threading.Thread(target=work)
    worker.start()
    looks = 0
    while worker.is_alive():
        told = verify.verify(LocalStorage(lake.root), TOPIC)
        assert told.findings == ()
        looks += 1
    worker.join()
    assert not failures
    assert looks > 1
    assert report(lake).rows == 24 * 9


def test_topics_are_those_of_the_lake(lake, tmp_path_factory):
    assert verify.topics(lake.storage, []) == [TOPIC]
    with pytest.raises(BadInput, match="has no topic other; it has part"):
        verify.topics(lake.storage, ["other"])
    with pytest.raises(BadInput, match="there is no lake in"):
        verify.topics(LocalStorage(tmp_path_factory.mktemp("empty")), [])

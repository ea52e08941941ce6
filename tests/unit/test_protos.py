"""What is committed below proto/ and generated from it belongs together."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import pytest
from example_stubs import STUBS, events_api_pb2, events_api_pb2_grpc, events_pb2, package_pb2
from google.protobuf.descriptor_pb2 import FileDescriptorProto, FileDescriptorSet
from waybill.v1 import options_pb2
from waybill_outbox.event_types import default_topic, event_type

from connectors import schemas

PROTO = Path(__file__).parents[2] / "proto"
DESCRIPTORS = PROTO / "descriptors.binpb"
FRESH = "run `make proto`"


def test_the_descriptor_set_is_current():
    buf = Path(sys.executable).with_name("buf")
    build = [buf, "build", "--as-file-descriptor-set", "--exclude-source-info", "-o", "-"]
    assert subprocess.run(build, cwd=PROTO, check=True, capture_output=True).stdout == DESCRIPTORS.read_bytes(), FRESH


def test_the_stubs_are_of_the_descriptor_set():
    files = {file.name: file for file in FileDescriptorSet.FromString(DESCRIPTORS.read_bytes()).file}
    for stub in (options_pb2, package_pb2, events_pb2, events_api_pb2):
        generated = FileDescriptorProto.FromString(stub.DESCRIPTOR.serialized_pb)
        assert generated == files[stub.DESCRIPTOR.name], FRESH


def test_stubs_and_options_import_together_without_a_warning():
    code = (
        "import waybill_outbox, waybill.v1.options_pb2 as options\n"
        "from logistics.v1 import events_pb2, events_api_pb2_grpc\n"
        "option = events_pb2.PackageDeliveredEvent.DESCRIPTOR.GetOptions().Extensions[options.event]\n"
        "print(option.topic, option.key)"
    )
    python = [sys.executable, "-W", "error", "-c", code]
    ran = subprocess.run(python, env={"PYTHONPATH": str(STUBS)}, capture_output=True, text=True, check=False)
    assert (ran.stdout, ran.stderr) == ("package_delivered package.id\n", "")


def test_a_method_that_a_service_leaves_out_answers_so_and_logs_no_error(caplog):
    server = grpc.server(ThreadPoolExecutor(1))
    events_api_pb2_grpc.add_EventsAPIServicer_to_server(events_api_pb2_grpc.EventsAPIServicer(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel, pytest.raises(grpc.RpcError) as refused:
            events_api_pb2_grpc.EventsAPIStub(channel).PackageCreated(events_pb2.PackageCreatedEvent(), timeout=10)
    finally:
        server.stop(None).wait()
    assert refused.value.code() is grpc.StatusCode.UNIMPLEMENTED
    assert caplog.records == []


def test_the_sdk_and_the_broker_read_the_same_topics_and_keys():
    catalog = schemas.load(DESCRIPTORS)
    seen = {event.name: (event.topic, event.key) for event in catalog.events}
    messages = [
        message for message in events_pb2.DESCRIPTOR.message_types_by_name.values() if message.GetOptions().ByteSize()
    ]
    kinds = [event_type(message) for message in messages]
    assert seen == {kind.name: (kind.topic, ".".join(kind.key)) for kind in kinds}
    assert len(kinds) >= 4


def test_the_sdk_and_the_broker_derive_the_same_default_topic():
    for name in ("PackageDelivered", "PackageDeliveredEvent", "HTTPCallEvent", "Event", "B2BOrderV2Event", "aEvent"):
        assert default_topic(name) == schemas.default_topic(name)

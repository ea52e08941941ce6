"""What aiokafka asks brokers about topics, once the engine is loaded."""

from aiokafka.protocol.metadata import MetadataRequest, MetadataRequest_v4, MetadataRequest_v5

import connectors.kafka  # noqa: F401 - what it changes in aiokafka is under test


def test_to_ask_for_a_topic_does_not_create_it() -> None:
    for version in (MetadataRequest_v4, MetadataRequest_v5):
        assert MetadataRequest(["parcels"]).build(version).allow_auto_topic_creation is False

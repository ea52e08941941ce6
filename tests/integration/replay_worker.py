"""The replay app on topics of a test's own.

faust -A replay_worker:app worker     env: BOOTSTRAP, COMMANDS, GROUP, PARTITIONS
"""

import os

from connectors.access import Access
from pipelines import replay
from pipelines.plan import Channel

ENV = os.environ
app = replay.build(
    Access(ENV["BOOTSTRAP"]),
    channel=Channel(ENV["COMMANDS"], ENV["GROUP"], int(ENV["PARTITIONS"])),
    broker_session_timeout=6.0,
    broker_heartbeat_interval=1.0,
    broker_request_timeout=10.0,
)

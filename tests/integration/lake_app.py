"""The lake's sink with a group of its own.

faust -A lake_app:app worker     env: WAYBILL_CONFIG, WAYBILL_METRICS_PORT, GROUP
"""

import os

from connectors import prometheus, settings
from lake.apps import build

config = settings.load()
prometheus.serve(config.metrics.host, config.metrics.port)
app = build(config, id=os.environ["GROUP"])

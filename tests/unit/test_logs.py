import json
import subprocess
import sys

SCRIPT = """
import logging
import structlog
from connectors import logs
log = structlog.get_logger()
logs.configure()
log.info("an event was delivered", event_id="7", consumer="service-a", error=ValueError("odd"))
log.debug("too quiet to be seen")
logging.getLogger("faust.worker").warning("stock %s", "logger")
logging.getLogger("aiokafka.conn").info("again and again")
for _ in range(3):
    logging.getLogger("aiokafka").error("the broker is away")
try:
    1 / 0
except ZeroDivisionError:
    logging.getLogger("mode").exception("it broke")
"""


def test_without_a_terminal_every_logger_writes_one_json_object_a_line_to_standard_error():
    ran = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True)
    assert ran.stdout == ""
    first, stock, away, broken = map(json.loads, ran.stderr.splitlines())
    assert first["event"] == "an event was delivered"
    assert (first["event_id"], first["consumer"], first["error"], first["level"]) == ("7", "service-a", "odd", "info")
    assert first["timestamp"].endswith("Z")
    assert (stock["event"], stock["logger"], stock["level"]) == ("stock logger", "faust.worker", "warning")
    assert away["event"] == "the broker is away"
    assert broken["exception"][0]["exc_type"] == "ZeroDivisionError"


WORKER = """
import logging
from mode.utils.logging import setup_logging
from connectors import logs
setup_logging(loglevel="DEBUG", logfile=None, logging_config=logs.config())
logging.getLogger("aiokafka.conn").debug("SaslAuthenticateRequest(sasl_auth_bytes=b'me and my password')")
logging.getLogger("grpc._cython.cygrpc").error("a traceback for each text that is not UTF-8")
logging.getLogger("pipelines").debug("shown")
"""


def test_a_worker_that_logs_everything_leaves_out_what_is_sent_to_log_in_and_what_grpc_cannot_decode():
    ran = subprocess.run([sys.executable, "-c", WORKER], capture_output=True, text=True, check=True)
    assert [json.loads(line)["event"] for line in ran.stderr.splitlines()] == ["shown"]

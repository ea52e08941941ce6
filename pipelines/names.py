"""Names that are contract: of consumer groups, apps, tables and Waybill's own topics.

A group's offsets and a table's content hang on its name, so a name never changes.
"""

LAKE_GROUP = "waybill-lake"
REPLAY_GROUP = "waybill-replay"

COMMANDS = "waybill_commands"

RETRY_TABLE = "retry-state"
REPLAY_TABLE = "replay-state"


def app_name(consumer: str) -> str:
    """What ``faust -A pipelines.apps:NAME`` calls a consumer's app."""
    return consumer.replace("-", "_")


def delivery_group(consumer: str) -> str:
    return f"waybill-{consumer}"


def retry_group(consumer: str) -> str:
    return f"waybill-{consumer}-retry"


def dedicated_group(consumer: str, topic: str) -> str:
    return f"waybill-{consumer}-{topic}"


def changelog(group: str, table: str) -> str:
    """The topic Faust keeps a table of the app ``group`` in."""
    return f"{group}-{table}-changelog"

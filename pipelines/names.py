"""Names that are contract: of consumer groups, apps, tables and Waybill's own topics.

A group's offsets and a table's content hang on its name, so a name never changes.
"""

LAKE_GROUP = "waybill-lake"
REPLAY_GROUP = "waybill-replay"

COMMANDS = "waybill_commands"
STATE = "waybill_state"

RETRY_TABLE = "retry-state"
REPLAY_TABLE = "replay-state"


def app_name(consumer: str, topic: str | None = None) -> str:
    """What ``faust -A pipelines.apps:NAME`` calls a consumer's app, or that of a dedicated topic of it."""
    name = consumer.replace("-", "_")
    return name if topic is None else f"{name}__{topic}"


def delivery_group(consumer: str) -> str:
    return f"waybill-{consumer}"


def retry_group(consumer: str) -> str:
    return f"waybill-{consumer}-retry"


def dedicated_group(consumer: str, topic: str) -> str:
    return f"waybill-{consumer}-{topic}"


def group_of(consumer: str, dedicated_topic: str | None) -> str:
    """The group of a consumer's worker, or of a dedicated topic's."""
    return delivery_group(consumer) if dedicated_topic is None else dedicated_group(consumer, dedicated_topic)


def changelog(group: str, table: str) -> str:
    """The topic Faust keeps a table of the app ``group`` in."""
    return f"{group}-{table}-changelog"


def retry_changelog(consumer: str) -> str:
    return changelog(retry_group(consumer), RETRY_TABLE)

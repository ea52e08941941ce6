"""Where the lake's files lie."""

from connectors.settings import Lake
from lake.storage.local import LocalStorage
from lake.storage.objects import Storage, create_bytes, footer, probe, read_bytes, replace_bytes

__all__ = ["Storage", "create_bytes", "footer", "of", "probe", "read_bytes", "replace_bytes"]


def of(lake: Lake) -> Storage:
    """The storage that the settings name.  Nothing is asked of it, nor made in it, before it is used."""
    return LocalStorage(lake.root)

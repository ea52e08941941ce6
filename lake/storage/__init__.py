"""Where the lake's files lie."""

from connectors.settings import S3, BucketFolder, Lake
from lake.storage.local import LocalStorage
from lake.storage.objects import Storage, create_bytes, footer, probe, read_bytes, replace_bytes

__all__ = ["Storage", "create_bytes", "footer", "of", "probe", "read_bytes", "replace_bytes"]


def of(lake: Lake) -> Storage:
    """The storage that the settings name.  Nothing is asked of it, nor made in it, before it is used."""
    match lake.root:
        case BucketFolder():
            from lake.storage.s3 import S3Storage  # noqa: PLC0415 - 30 MB that a lake in a folder does not need

            return S3Storage(lake.root, lake.s3 or S3(), lake.scratch)
        case _:
            return LocalStorage(lake.root)

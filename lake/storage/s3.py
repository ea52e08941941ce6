"""A lake in a bucket of S3, or of any object store that speaks its language and honours ``If-None-Match``."""

import errno
import io
import os
import random
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from functools import cached_property, partial
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, TypeVar

from fsspec.asyn import sync
from s3fs import S3FileSystem

from connectors.problems import BadInput, Problem, Unreachable
from connectors.settings import S3, BucketFolder
from lake.storage import answers
from lake.storage.answers import Meaning
from lake.storage.objects import PROBE, create_bytes, unusable
from lake.storage.s3_reader import BUFFER, TAIL, S3Files, S3Reader, Tail
from lake.storage.scratch import Scratch

if TYPE_CHECKING:  # a sink does not need it, and it takes 12 MB
    import duckdb

T = TypeVar("T")

#: Bytes of a part; what is smaller than two of them is put in one request.
PART = 8 << 20
#: Parts on their way at the same time.
PARALLEL = 4
#: Seconds for which a request is made again and again while the store does not answer.
PATIENCE = 20.0
#: Requests that botocore makes before it gives up on one, whose failure starts the next of ours.
ATTEMPTS = 3
LONGEST_PAUSE = 5.0


class S3Storage:
    """Create-if-absent is a condition of the one request that makes an object visible, whole.

    Lists and objects are asked for each time: nothing is remembered of what other processes may change.
    """

    def __init__(self, root: BucketFolder, access: S3, scratch: Path | None = None, patience: float = PATIENCE) -> None:
        self.root, self._access, self._patience = root, access, patience
        self._scratch = Scratch((scratch or Path(tempfile.gettempdir()) / f"waybill-{os.getuid()}") / "spool")

    def __str__(self) -> str:
        return str(self.root)

    @property
    def scratch(self) -> Path:
        try:
            return self._scratch.folder
        except OSError as error:
            needs = "lake.scratch needs a folder of this machine that can be written"
            raise unusable(error.filename or self, error, needs) from error

    def create(self, source: Path, key: str) -> bool:
        if source.stat().st_size >= 2 * PART:
            _ = self._parts_are_conditional
        try:
            self._put(source, key, mode="create")
        except FileExistsError:
            return False
        return True

    def replace(self, source: Path, key: str) -> None:
        self._put(source, key, mode="overwrite")

    def delete(self, key: str) -> None:
        self._ask("delete", self.uri(key), lambda: self._call("delete_object", Key=self._name(key)))

    def keys(self, prefix: str) -> list[str]:
        return list(self.sizes(prefix))

    def sizes(self, prefix: str) -> dict[str, int]:
        begin = self._name("")
        folder = self._name(f"{prefix}/" if prefix else "")
        return {name.removeprefix(begin): size for name, size in self._listed(folder)}

    def open(self, key: str) -> BinaryIO:
        return io.BufferedReader(self._reader(self._name(key)), BUFFER)

    def uri(self, key: str) -> str:
        return self._where(self._name(key))

    def attach(self, connection: "duckdb.DuckDBPyConnection") -> None:
        connection.execute("SET autoinstall_known_extensions = false; SET autoload_known_extensions = false")
        files = S3Files(self.root.bucket, self._reader, lambda begin: (name for name, _ in self._listed(begin)))
        connection.register_filesystem(files)

    @cached_property
    def _fs(self) -> S3FileSystem:
        access = self._access
        fs = S3FileSystem(
            endpoint_url=access.endpoint_url,
            key=access.access_key_id,
            secret=access.secret_access_key.reveal() if access.secret_access_key else None,
            client_kwargs={"region_name": access.region} if access.region else {},
            config_kwargs={"retries": {"mode": "standard", "total_max_attempts": ATTEMPTS}},
            max_concurrency=PARALLEL,
            use_listings_cache=False,
            skip_instance_cache=True,
        )
        fs.retries = 1  # _ask does it, for more kinds of errors
        return fs

    @cached_property
    def _parts_are_conditional(self) -> bool:
        """True.  Raises BadInput if an upload in parts replaces what is there, as some stores let it that honour the
        condition otherwise.
        """
        create_bytes(self, PROBE, b"")
        target = {"Key": self._name(PROBE)}

        def replace() -> None:
            upload = target | {"UploadId": self._call("create_multipart_upload", **target)["UploadId"]}
            try:
                etag = self._call("upload_part", **upload, PartNumber=1, Body=b"")["ETag"]
                parts = {"Parts": [{"PartNumber": 1, "ETag": etag}]}
                self._call("complete_multipart_upload", **upload, MultipartUpload=parts, IfNoneMatch="*")
            except Exception:
                self._call("abort_multipart_upload", **upload)
                raise

        try:
            self._ask("probe", str(self), replace)
        except FileExistsError:
            return True
        raise BadInput(
            f"{self} cannot hold a lake: an upload in parts replaced `{PROBE}`, and create-if-absent is what keeps "
            "every record in the lake once; choose another storage for lake.root"
        )

    def _put(self, source: Path, key: str, *, mode: str) -> None:
        name = f"{self.root.bucket}/{self._name(key)}"
        self._ask(
            "write",
            self.uri(key),
            lambda: self._fs.put_file(str(source), name, mode=mode, chunksize=PART, max_concurrency=PARALLEL),
        )

    def _listed(self, begin: str) -> Iterator[tuple[str, int]]:
        """Name and bytes of all objects whose names begin so, but for what consoles make for folders."""
        request = {"Prefix": begin}
        while True:
            page = self._ask("list", self._where(begin), partial(self._call, "list_objects_v2", **request))
            for found in page.get("Contents", ()):
                if not found["Key"].endswith("/"):
                    yield found["Key"], found["Size"]
            if not page.get("IsTruncated"):
                return
            request["ContinuationToken"] = page["NextContinuationToken"]

    def _reader(self, name: str) -> S3Reader:
        """Of the object ``name`` of the bucket.  Raises FileNotFoundError."""
        try:
            tail = self._get(name, Range=f"bytes=-{TAIL}")
        except EOFError:
            tail = Tail(b"", 0, "", datetime.now(UTC))

        def fetch(start: int, end: int) -> bytes:
            try:
                content = self._get(name, Range=f"bytes={start}-{end - 1}", IfMatch=tail.etag).content
            except FileExistsError as error:
                raise Problem(f"{self._where(name)} was replaced while it was read; read it again") from error
            if len(content) != end - start:
                raise Problem(f"{self._where(name)} answers with {len(content)} bytes instead of {end - start}")
            return content

        return S3Reader(tail, fetch)

    def _get(self, name: str, **request: str) -> Tail:
        found: Tail = self._ask(
            "read",
            self._where(name),
            lambda: sync(self._fs.loop, _get, self._fs, Bucket=self.root.bucket, Key=name, **request),
        )
        return found

    def _call(self, method: str, **request: Any) -> Any:
        return self._fs.call_s3(method, Bucket=self.root.bucket, **request)

    def _ask(self, verb: str, where: str, request: Callable[[], T]) -> T:
        """The answer to ``request``, which may be made again and again.

        Raises FileExistsError, FileNotFoundError or EOFError (no byte of a range), as the answer says; BadInput where
        somebody has to change something; Unreachable where there was no answer for too long.
        """
        end = time.monotonic() + self._patience
        for turn in count():
            try:
                return request()
            except Exception as error:  # noqa: BLE001 - raised again, unless it is known
                answer, trouble = answers.read(error), error
            # Not within the except: what the next try raises is not about this one.
            if answer is None:
                raise trouble
            match answer.meaning:
                case Meaning.EXISTS:
                    raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), where) from trouble
                case Meaning.ABSENT:
                    raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), where) from trouble
                case Meaning.EMPTY:
                    raise EOFError(where) from trouble
                case Meaning.REFUSED:
                    raise BadInput(f"cannot {verb} {where}: {answer.reason}; {answer.advice}") from trouble
            pause = random.uniform(0, min(LONGEST_PAUSE, 0.1 * 2**turn))  # noqa: S311 - no secret
            if time.monotonic() + pause > end:
                raise Unreachable(
                    f"cannot {verb} {where}: {self._access.endpoint_url or 'S3'} does not answer as it should "
                    f"({answer.reason}); see that it runs, and that lake.s3 in the settings is right"
                ) from trouble
            time.sleep(pause)
        raise AssertionError("unreachable")

    def _name(self, key: str) -> str:
        """In the bucket."""
        return f"{self.root.folder}/{key}" if self.root.folder else key

    def _where(self, name: str) -> str:
        return f"s3://{self.root.bucket}/{name}"


async def _get(fs: S3FileSystem, **request: str) -> Tail:
    """Content is what there is of the range."""
    answer = await fs._call_s3("get_object", **request)  # noqa: SLF001 - its public twin gives the body to no thread
    async with answer["Body"] as body:
        content = await body.read()
    whole = answer.get("ContentRange", "").rpartition("/")[2]
    return Tail(content, int(whole) if whole else len(content), answer["ETag"], answer["LastModified"])

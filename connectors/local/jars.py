"""Kafka's, Connect's and Debezium's jars: locked by Maven coordinate and sha256, fetched once, verified at each start.

``jars.lock`` is made from WANTED by ``python -m connectors.local.jars``; it names no host.  Where jars are fetched from
is jgo's matter: Maven Central, or the repositories of the user's jgo configuration file.
"""

import errno
import hashlib
import os
import sys
import tempfile
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

import requests
from jgo.config import GlobalSettings
from jgo.maven import MavenContext

from connectors.problems import BadInput, Problem, Unreachable

KAFKA_VERSION = "4.3.1"
DEBEZIUM_VERSION = "3.6.3.Final"
WANTED = {
    "kafka": (
        f"org.apache.kafka:kafka_2.13:{KAFKA_VERSION}",
        f"org.apache.kafka:kafka-tools:{KAFKA_VERSION}",
        f"org.apache.kafka:connect-runtime:{KAFKA_VERSION}",
        f"org.apache.kafka:connect-json:{KAFKA_VERSION}",
        f"org.apache.kafka:connect-transforms:{KAFKA_VERSION}",
        "org.apache.logging.log4j:log4j-slf4j-impl:2.25.4",
    ),
    "plugins/debezium": (
        f"io.debezium:debezium-connector-postgres:{DEBEZIUM_VERSION}",
        f"io.debezium:debezium-connect-plugins:{DEBEZIUM_VERSION}",
    ),
}

LOCK = Path(__file__).with_name("jars.lock")
ATTEMPTS = 3
WORKERS = 8


@dataclass(frozen=True)
class Jar:
    """One locked jar: ``group`` is the folder it belongs to (the class path, or a Connect plugin)."""

    group: str
    coordinate: str
    sha256: str

    @property
    def filename(self) -> str:
        _, artifact, version = self.coordinate.split(":")
        return f"{artifact}-{version}.jar"


def read_lock(path: Path = LOCK) -> tuple[Jar, ...]:
    """The locked jars; BadInput names the first line that is not ``group coordinate sha256``."""
    jars = []
    for number, line in enumerate(path.read_text().splitlines(), 1):
        if not line or line.startswith("#"):
            continue
        match line.split():
            case [group, coordinate, sha256] if coordinate.count(":") == 2 and len(sha256) == 64:
                jars.append(Jar(group, coordinate, sha256))
            case _:
                raise BadInput(
                    f"{path}:{number}: expected 'group group-id:artifact:version sha256', got {line!r}; "
                    "restore the file or make it anew with `make jars`."
                )
    return tuple(jars)


def cache() -> Path:
    """The folder that all homes of this user share: WAYBILL_CACHE, else ~/.cache/waybill."""
    return Path(os.environ.get("WAYBILL_CACHE") or Path.home() / ".cache" / "waybill").absolute()


def install(jars: Iterable[Jar], root: Path, progress: Callable[[int, int], None]) -> Path:
    """Bring every jar, verified, below ``root`` and return the folder with one subfolder a group.

    ``progress(done, total)`` is called when the missing jars are known and after each.  Jars on disk with a wrong
    checksum are fetched again.  Raises Unreachable (download failed) or Problem (wrong bytes, disk full).
    """
    jars = tuple(jars)
    folder = root / f"jars-{hashlib.sha256(repr(jars).encode()).hexdigest()[:12]}"
    try:
        missing = [jar for jar in jars if not _is_intact(folder / jar.group / jar.filename, jar)]
        if not missing:
            return folder
        for group in {jar.group for jar in jars}:
            (folder / group).mkdir(parents=True, exist_ok=True)
        progress(0, len(missing))
        with ThreadPoolExecutor(WORKERS) as pool:
            downloads = [pool.submit(_fetch, jar, folder) for jar in missing]
            try:
                for done, download in enumerate(as_completed(downloads), 1):
                    download.result()
                    progress(done, len(missing))
            except Exception:
                pool.shutdown(cancel_futures=True)
                raise
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise Problem(
                f"The disk of {root} is full; free some space, or set WAYBILL_CACHE to a folder on another disk."
            ) from error
        raise Problem(f"Cannot write jars below {root}: {error}; set WAYBILL_CACHE to a folder of yours.") from error
    return folder


def _is_intact(path: Path, jar: Jar) -> bool:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest() == jar.sha256
    except FileNotFoundError:
        return False


def _fetch(jar: Jar, folder: Path) -> None:
    """Download into a folder of its own first: what stands under its final name is always whole and verified."""
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        downloaded = _download(jar, Path(scratch))
        actual = hashlib.sha256(downloaded.read_bytes()).hexdigest()
        if actual != jar.sha256:
            raise Problem(
                f"Bad checksum: {jar.coordinate} was downloaded with sha256 {actual}, but {LOCK.name} says "
                f"{jar.sha256}; it was thrown away. Try again; if it stays so, do not trust where it came from."
            )
        downloaded.replace(folder / jar.group / jar.filename)


def _download(jar: Jar, scratch: Path) -> Path:
    group, artifact, version = jar.coordinate.split(":")
    for attempt in range(1, ATTEMPTS + 1):
        context = _context(scratch / str(attempt))
        try:
            path: Path = context.project(group, artifact).at_version(version).artifact().resolve()
        # jgo says "not found" by RuntimeError; requests' errors are OSErrors, as a full disk is: told apart here.
        except (requests.RequestException, RuntimeError) as error:
            if attempt == ATTEMPTS:
                raise Unreachable(
                    f"Could not download {jar.coordinate} ({error}); check the network, or name a repository in "
                    "jgo's configuration file, then run the command again: what is already there is kept."
                ) from error
        else:
            return path
    raise AssertionError("unreachable")


def _context(repository: Path) -> MavenContext:
    repositories = GlobalSettings.load().repositories
    return MavenContext(repo_cache=repository, remote_repos=repositories or None, timeout=30)


def resolve() -> tuple[Jar, ...]:
    """Resolve WANTED anew, download everything, and return it locked.

    A plugin takes from the worker what the worker has: a second copy would be another class to Java.
    """
    locked: list[Jar] = []
    in_worker: set[tuple[str, str]] = set()
    with tempfile.TemporaryDirectory() as scratch:
        context = _context(Path(scratch))
        for group, coordinates in WANTED.items():
            # "!" is raw: no coordinate is a bill of materials, or log4j's would push Kafka's own client back to 3.x.
            wanted = [context.create_dependency(f"{coordinate}!") for coordinate in coordinates]
            for dependency in wanted:
                dependency.scope = "compile"
            inputs, others = context.resolver.resolve(wanted)
            for dependency in [*inputs, *(d for d in others if d.scope in ("compile", "runtime"))]:
                name = (dependency.groupId, dependency.artifactId)
                if name in in_worker:
                    continue
                if group == "kafka":
                    in_worker.add(name)
                coordinate = f"{dependency.groupId}:{dependency.artifactId}:{dependency.version}"
                path = dependency.artifact.resolve()
                locked.append(Jar(group, coordinate, hashlib.sha256(path.read_bytes()).hexdigest()))
    return tuple(sorted(set(locked), key=lambda jar: (jar.group, jar.coordinate)))


def render_lock(jars: Iterable[Jar]) -> str:
    lines = [f"{jar.group} {jar.coordinate} {jar.sha256}" for jar in jars]
    return "\n".join(["# Made by `make jars`; do not edit. Folder, Maven coordinate, sha256.", *lines, ""])


if __name__ == "__main__":
    LOCK.write_text(render_lock(resolve()))
    sys.stderr.write(f"wrote {LOCK}\n")

"""What an answer of S3, or its absence, means.  Pure."""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum, auto

import aiohttp
from botocore import exceptions as boto
from botocore.parsers import ResponseParserError


class Meaning(Enum):
    EXISTS = auto()
    """The condition of the request does not hold: the object is there, or is another one than it was."""
    ABSENT = auto()
    """There is no such object."""
    EMPTY = auto()
    """The object has not a byte of the range that was asked for."""
    AGAIN = auto()
    """Nothing is known, or nothing happened: the same request may succeed later."""
    REFUSED = auto()
    """It will not succeed before somebody has changed something."""


@dataclass(frozen=True, slots=True)
class Answer:
    meaning: Meaning
    reason: str
    """What was said, in one line; never a secret."""
    advice: str = ""


_MEANINGS = {
    "PreconditionFailed": Meaning.EXISTS,
    "412": Meaning.EXISTS,
    "NoSuchKey": Meaning.ABSENT,
    "InvalidRange": Meaning.EMPTY,
    "416": Meaning.EMPTY,
}

#: Beside every 5xx but 501: neither won nor lost (ConditionalRequestConflict; NoSuchUpload, when the answer to the end
#: of an upload was lost), too much at once, or damaged on its way.
_PASSING = {
    "BadDigest",
    "BandwidthLimitExceeded",
    "ConditionalRequestConflict",
    "IncompleteBody",
    "InternalError",
    "NoSuchUpload",
    "OperationAborted",
    "RequestLimitExceeded",
    "RequestTimeout",
    "RequestTimeoutException",
    "ServiceUnavailable",
    "SlowDown",
    "Throttling",
    "ThrottlingException",
    "TooManyRequests",
    "XAmzContentSHA256Mismatch",
}

_LOST = (
    aiohttp.ClientError,
    boto.ChecksumError,
    boto.ConnectionError,
    boto.HTTPClientError,
    boto.IncompleteReadError,
    ResponseParserError,  # some proxies answer in HTML
    TimeoutError,
)

_KEYS = (
    "correct lake.s3.access-key-id and lake.s3.secret-access-key or, without them, the credentials of this machine "
    "(environment, profile, role)"
)
_REGION = "correct lake.s3.region and lake.s3.endpoint-url"
_RIGHTS = "give these credentials the rights that docs/security.md names"
_OTHER = "see lake.root and lake.s3 in the settings"
_ADVICE = {
    "AccessDenied": _RIGHTS,
    "AllAccessDisabled": _RIGHTS,
    "403": _RIGHTS,
    "AuthorizationHeaderMalformed": _REGION,
    "IllegalLocationConstraintException": _REGION,
    "PermanentRedirect": _REGION,
    "301": _REGION,
    "ExpiredToken": _KEYS,
    "InvalidAccessKeyId": _KEYS,
    "InvalidToken": _KEYS,
    "SignatureDoesNotMatch": _KEYS,
    "NotImplemented": "choose a store for lake.root that has If-None-Match for PutObject and CompleteMultipartUpload",
    "NoSuchBucket": "make the bucket, or correct lake.root",
    "RequestTimeTooSkewed": "set the clock of this machine",
}


def read(error: BaseException) -> Answer | None:
    """What the error that a request ended with means; None if it is about something else, a file on this machine say.

    Of several errors, each raised while the one before it was handled, the first is the answer: whether an upload that
    failed could be cleared away does not matter.
    """
    links = list(_chain(error))
    for link in reversed(links):
        if isinstance(link, boto.ClientError):
            return _said(link)
    for link in links:
        if isinstance(link, boto.SSLError):
            return Answer(Meaning.REFUSED, _line(link), "trust the authority of its certificate (AWS_CA_BUNDLE)")
        if isinstance(link, _LOST):
            return Answer(Meaning.AGAIN, _line(link))
        if isinstance(link, boto.BotoCoreError):
            keys = "redential" in type(link).__name__ or isinstance(link, boto.ProfileNotFound)
            return Answer(Meaning.REFUSED, _line(link), _KEYS if keys else _OTHER)
    return None


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error:
        yield error
        error = error.__cause__ or error.__context__


def _said(error: boto.ClientError) -> Answer:
    code = str(error.response.get("Error", {}).get("Code", ""))
    status = int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
    reason = _line(f"{code}: {error.response.get('Error', {}).get('Message', '')}")
    if meaning := _MEANINGS.get(code):
        return Answer(meaning, reason)
    if code in _PASSING or status == 429 or (status >= 500 and status != 501):
        return Answer(Meaning.AGAIN, reason)
    return Answer(Meaning.REFUSED, reason, _ADVICE.get(code, _OTHER))


def _line(what: object) -> str:
    text = " ".join(str(what).split())[:300]
    return text if text.isprintable() else ascii(text)

"""What S3's answers mean, and what a person is told to do about them."""

import aiohttp
import pytest
from botocore import exceptions as boto
from botocore.parsers import ResponseParserError
from hypothesis import given
from hypothesis import strategies as st
from s3fs.errors import translate_boto_error

from lake.storage import answers
from lake.storage.answers import Meaning


def answered(status: int, code: str, message: str = "no") -> boto.ClientError:
    told = {"Error": {"Code": code, "Message": message}, "ResponseMetadata": {"HTTPStatusCode": status}}
    return boto.ClientError(told, "PutObject")


def after(first: Exception, then: Exception) -> Exception:
    """``then``, as if raised while ``first`` was handled."""
    then.__context__ = first
    return then


@pytest.mark.parametrize(
    ("status", "code", "meaning"),
    [
        (412, "PreconditionFailed", Meaning.EXISTS),
        (409, "ConditionalRequestConflict", Meaning.AGAIN),
        (409, "OperationAborted", Meaning.AGAIN),
        (404, "NoSuchUpload", Meaning.AGAIN),
        (404, "NoSuchKey", Meaning.ABSENT),
        (404, "NoSuchBucket", Meaning.REFUSED),
        (416, "InvalidRange", Meaning.EMPTY),
        (400, "RequestTimeout", Meaning.AGAIN),
        (400, "InvalidRequest", Meaning.REFUSED),
        (429, "Whatever", Meaning.AGAIN),
        (500, "InternalError", Meaning.AGAIN),
        (503, "SlowDown", Meaning.AGAIN),
        (501, "NotImplemented", Meaning.REFUSED),
        (403, "AccessDenied", Meaning.REFUSED),
        (403, "ExpiredToken", Meaning.REFUSED),
        (301, "PermanentRedirect", Meaning.REFUSED),
    ],
)
def test_each_answer_has_its_meaning_also_as_s3fs_raises_it(status, code, meaning):
    for error in (answered(status, code), translate_boto_error(answered(status, code))):
        told = answers.read(error)
        assert told is not None
        assert told.meaning is meaning
        assert told.reason == f"{code}: no"
        assert bool(told.advice) == (meaning is Meaning.REFUSED)


@pytest.mark.parametrize(
    "error",
    [
        boto.EndpointConnectionError(endpoint_url="http://x"),
        boto.ConnectTimeoutError(endpoint_url="http://x"),
        boto.ReadTimeoutError(endpoint_url="http://x"),
        boto.ConnectionClosedError(endpoint_url="http://x"),
        boto.ResponseStreamingError(error="cut"),
        aiohttp.ClientPayloadError("cut"),
        ResponseParserError("<html>"),
        TimeoutError(),
    ],
)
def test_no_answer_means_to_ask_again(error):
    assert answers.read(error).meaning is Meaning.AGAIN


@pytest.mark.parametrize(
    ("error", "advice"),
    [
        (boto.NoCredentialsError(), "credentials of this machine"),
        (boto.PartialCredentialsError(provider="env", cred_var="x"), "credentials of this machine"),
        (boto.ProfileNotFound(profile="x"), "credentials of this machine"),
        (boto.SSLError(endpoint_url="https://x", error="unknown authority"), "AWS_CA_BUNDLE"),
        (boto.ParamValidationError(report="x"), "lake.root"),
        (answered(403, "InvalidAccessKeyId"), "lake.s3.access-key-id"),
        (answered(403, "403"), "rights"),
        (answered(404, "NoSuchBucket"), "make the bucket"),
    ],
)
def test_what_waiting_cannot_mend_comes_with_what_to_do(error, advice):
    told = answers.read(error)
    assert told.meaning is Meaning.REFUSED
    assert advice in told.advice


@pytest.mark.parametrize("error", [FileNotFoundError(2, "no"), OSError(28, "full"), ValueError("x"), KeyError("x")])
def test_an_error_of_this_machine_is_no_answer(error):
    assert answers.read(error) is None


def test_who_lost_a_race_lost_it_even_if_the_upload_could_not_be_cleared_away():
    lost = translate_boto_error(answered(412, "PreconditionFailed"))
    for then in (answered(404, "NoSuchUpload"), boto.EndpointConnectionError(endpoint_url="http://x")):
        assert answers.read(after(lost, then)).meaning is Meaning.EXISTS


@given(st.integers(200, 599), st.text(max_size=400), st.text(max_size=400))
def test_any_answer_becomes_one_short_printable_line(status, code, message):
    told = answers.read(answered(status, code, message))
    assert told.reason.isprintable()
    assert len(told.reason) < 4000

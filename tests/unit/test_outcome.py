import pytest

from pipelines.outcome import DELIVERED, Against, Rejected, Retryable, classify

TABLE = {
    "OK": DELIVERED,
    "ALREADY_EXISTS": DELIVERED,
    "UNAVAILABLE": Retryable("UNAVAILABLE", "why", Against.CONSUMER),
    "DEADLINE_EXCEEDED": Retryable("DEADLINE_EXCEEDED", "why", Against.ENDPOINT),
    "UNKNOWN": Retryable("UNKNOWN", "why", Against.ENDPOINT),
    "INTERNAL": Retryable("INTERNAL", "why", Against.ENDPOINT),
    "ABORTED": Retryable("ABORTED", "why", Against.ENDPOINT),
    "CANCELLED": Retryable("CANCELLED", "why", Against.ENDPOINT),
    "UNAUTHENTICATED": Retryable("UNAUTHENTICATED", "why", Against.ENDPOINT),
    "PERMISSION_DENIED": Retryable("PERMISSION_DENIED", "why", Against.ENDPOINT),
    "UNIMPLEMENTED": Retryable("UNIMPLEMENTED", "why", Against.ENDPOINT, in_memory=False),
    "RESOURCE_EXHAUSTED": Retryable("RESOURCE_EXHAUSTED", "why", Against.LIMIT),
    "INVALID_ARGUMENT": Rejected("INVALID_ARGUMENT", "why"),
    "NOT_FOUND": Rejected("NOT_FOUND", "why"),
    "FAILED_PRECONDITION": Rejected("FAILED_PRECONDITION", "why"),
    "OUT_OF_RANGE": Rejected("OUT_OF_RANGE", "why"),
    "DATA_LOSS": Rejected("DATA_LOSS", "why"),
}


@pytest.mark.parametrize("status", TABLE)
def test_each_status_has_the_documented_outcome(status):
    assert classify(status, None, "why") == TABLE[status]


@pytest.mark.parametrize("status", TABLE)
def test_the_consumers_trailer_overrides_any_status(status):
    assert classify(status, "done", "why") is DELIVERED
    assert classify(status, "reject", "why") == Rejected(status, "why")
    assert isinstance(classify(status, "retry", "why"), Retryable)


@pytest.mark.parametrize("status", TABLE)
def test_a_trailer_nobody_documented_changes_nothing(status):
    assert classify(status, "Retry!", "why") == TABLE[status]


def test_who_asks_for_a_retry_is_there_so_it_never_counts_against_the_consumer():
    assert classify("UNAVAILABLE", "retry") == Retryable("UNAVAILABLE", "", Against.ENDPOINT)


def test_a_status_of_the_future_is_retryable():
    assert classify("TEAPOT") == Retryable("TEAPOT", "", Against.ENDPOINT)

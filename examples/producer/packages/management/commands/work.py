"""Days of work in a minute: packages come in, are toured, sometimes delayed, and delivered."""

import time
from argparse import ArgumentParser
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand
from django.db import transaction
from logistics.v1 import events_pb2
from waybill_outbox.django.models import OutboxEvent

from examples.producer.packages.models import Package
from examples.producer.packages.services import assign_route, create_package, delay_package, deliver_package

TOUR = 10
#: Which transaction of a tour is tried and taken back first: of another kind each time.
UNDONE = (0, TOUR, TOUR + 1, TOUR + 4)
COUNTRIES = ("DE", "NL", "FR", "GB", "DE", "NL", "FR", "DE", "PT", "DE", "NL", "FR", "GB")
REASONS = (
    events_pb2.DELAY_REASON_WEATHER,
    events_pb2.DELAY_REASON_TRAFFIC,
    events_pb2.DELAY_REASON_CUSTOMS,
    events_pb2.DELAY_REASON_ADDRESS_UNKNOWN,
)

Work = tuple[Callable[..., None], Sequence[Any]]


class Command(BaseCommand):
    help = "Change packages and save events; take some transactions back."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--tours", type=int, default=1, help="How many, of 24 events each.")
        parser.add_argument("--rate", type=float, default=50.0, help="Transactions a second.")
        parser.add_argument(
            "--rolled-back", type=Path, default=Path("/dev/stdout"), help="File for the events that were taken back."
        )

    def handle(self, *args: Any, tours: int, rate: float, rolled_back: Path, **options: Any) -> None:
        pace = paced(rate)
        with rolled_back.open("a") as taken_back:
            for tour in range(tours):
                for number, (work, arguments) in enumerate(day(tour)):
                    if number == UNDONE[tour % len(UNDONE)]:
                        next(pace)
                        print(*undone(work, arguments), file=taken_back, flush=True)
                    next(pace)
                    work(*arguments)


def paced(rate: float) -> Iterator[int]:
    """Numbers, at most ``rate`` of them a second on average."""
    started = time.monotonic()
    for number in count():
        time.sleep(max(0.0, started + number / rate - time.monotonic()))
        yield number


def day(tour: int) -> Iterator[Work]:
    packages = [package(tour * TOUR + number) for number in range(TOUR)]
    for each in packages:
        yield create_package, [each]
    yield assign_route, [f"driver-{tour % 7}", datetime.now(UTC) + timedelta(hours=1), packages]
    for late, each in enumerate(packages[:3]):
        yield delay_package, [each, timedelta(hours=1 + late), REASONS[(tour + late) % len(REASONS)]]
    for each in packages:
        yield deliver_package, [each]


def package(number: int) -> Package:
    return Package(
        sender=f"shop-{number % 11}",
        recipient=f"Recipient {number}",
        street=f"Street {number % 90}",
        postal_code=f"{10000 + number % 80000}",
        country=COUNTRIES[number % len(COUNTRIES)],
        phone=f"+49 30 {1000000 + number}",
        weight_grams=200 + number * 37 % 9000,
    )


def undone(work: Callable[..., None], arguments: Sequence[Any]) -> tuple[str, str]:
    """Do the work and roll it back.  Returns id and topic of its event, which nobody may ever see."""
    with transaction.atomic():
        work(*arguments)
        event = OutboxEvent.objects.latest("id")
        transaction.set_rollback(True)
    return str(event.id), event.topic

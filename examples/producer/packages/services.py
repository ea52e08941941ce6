"""What the service does.  Each change and the event that tells of it are saved in one transaction: both or neither."""

from collections.abc import Sequence
from datetime import datetime, timedelta

from django.db.transaction import atomic
from logistics.v1.events_pb2 import (
    DelayReason,
    PackageCreatedEvent,
    PackageDelayedEvent,
    PackageDeliveredEvent,
    RouteAssignedEvent,
)
from waybill_outbox import build_event

from examples.producer.packages.models import Package, Route


@atomic
def create_package(package: Package) -> None:
    package.save()
    event = PackageCreatedEvent(package=package.to_proto(), sender_id=package.sender)
    build_event(event).save()


@atomic
def assign_route(driver: str, departs_at: datetime, packages: Sequence[Package]) -> None:
    route = Route.objects.create(driver=driver, departs_at=departs_at)
    route.packages.set(packages)
    event = RouteAssignedEvent(route_id=route.pk, driver_id=driver, departs_at=departs_at)
    for package in packages:
        package.status = "in_transit"
        package.save()
        event.stops.add(package_id=str(package.pk), address=package.address())
    build_event(event).save()


@atomic
def delay_package(package: Package, delay: timedelta, reason: DelayReason) -> None:
    package.status = "delayed"
    package.save()
    event = PackageDelayedEvent(package_id=str(package.pk), delay=delay, reason=reason)
    build_event(event).save()


@atomic
def deliver_package(package: Package) -> None:
    package.status = "delivered"
    package.save()
    event = PackageDeliveredEvent(package=package.to_proto())
    build_event(event).save()

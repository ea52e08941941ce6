"""The service's own data.  It knows its protobuf messages, nothing of topics or consumers."""

# ruff: noqa: D106 - Status and Meta are Django's words

from django.db import models
from logistics.v1 import package_pb2


class Package(models.Model):
    """A parcel on its way from a sender to a recipient."""

    class Status(models.TextChoices):
        CREATED = "created"
        IN_TRANSIT = "in_transit"
        DELAYED = "delayed"
        DELIVERED = "delivered"

    status = models.CharField(max_length=16, choices=Status, default=Status.CREATED)
    sender = models.CharField(max_length=40)
    recipient = models.CharField(max_length=100)
    street = models.CharField(max_length=100)
    postal_code = models.CharField(max_length=16)
    country = models.CharField(max_length=2)
    phone = models.CharField(max_length=32)
    weight_grams = models.PositiveIntegerField()
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        db_table = "packages"

    def __str__(self) -> str:
        return f"package {self.pk}, {self.status}"

    def to_proto(self) -> package_pb2.Package:
        return package_pb2.Package(
            id=str(self.pk),
            status=package_pb2.PackageStatus.Value(f"PACKAGE_STATUS_{self.status.upper()}"),
            destination=self.address(),
            weight_grams=self.weight_grams,
            created_at=self.created_at,
        )

    def address(self) -> package_pb2.Address:
        return package_pb2.Address(
            recipient=self.recipient,
            lines=[self.street],
            postal_code=self.postal_code,
            country_code=self.country,
            phone=self.phone,
        )


class Route(models.Model):
    """A driver's tour."""

    driver = models.CharField(max_length=40)
    departs_at = models.DateTimeField()
    packages = models.ManyToManyField(Package)

    class Meta:
        db_table = "routes"

    def __str__(self) -> str:
        return f"route {self.pk} of {self.driver}"

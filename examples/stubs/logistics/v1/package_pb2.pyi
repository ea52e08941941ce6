from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Iterable as _Iterable, Mapping as _Mapping, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class PackageStatus(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    PACKAGE_STATUS_UNSPECIFIED: _ClassVar[PackageStatus]
    PACKAGE_STATUS_CREATED: _ClassVar[PackageStatus]
    PACKAGE_STATUS_IN_TRANSIT: _ClassVar[PackageStatus]
    PACKAGE_STATUS_DELAYED: _ClassVar[PackageStatus]
    PACKAGE_STATUS_DELIVERED: _ClassVar[PackageStatus]
PACKAGE_STATUS_UNSPECIFIED: PackageStatus
PACKAGE_STATUS_CREATED: PackageStatus
PACKAGE_STATUS_IN_TRANSIT: PackageStatus
PACKAGE_STATUS_DELAYED: PackageStatus
PACKAGE_STATUS_DELIVERED: PackageStatus

class Package(_message.Message):
    __slots__ = ("id", "status", "destination", "weight_grams", "dimensions", "created_at", "labels", "items")
    class LabelsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    ID_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    DESTINATION_FIELD_NUMBER: _ClassVar[int]
    WEIGHT_GRAMS_FIELD_NUMBER: _ClassVar[int]
    DIMENSIONS_FIELD_NUMBER: _ClassVar[int]
    CREATED_AT_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    ITEMS_FIELD_NUMBER: _ClassVar[int]
    id: str
    status: PackageStatus
    destination: Address
    weight_grams: int
    dimensions: Dimensions
    created_at: _timestamp_pb2.Timestamp
    labels: _containers.ScalarMap[str, str]
    items: _containers.RepeatedCompositeFieldContainer[Item]
    def __init__(self, id: _Optional[str] = ..., status: _Optional[_Union[PackageStatus, str]] = ..., destination: _Optional[_Union[Address, _Mapping]] = ..., weight_grams: _Optional[int] = ..., dimensions: _Optional[_Union[Dimensions, _Mapping]] = ..., created_at: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ..., labels: _Optional[_Mapping[str, str]] = ..., items: _Optional[_Iterable[_Union[Item, _Mapping]]] = ...) -> None: ...

class Address(_message.Message):
    __slots__ = ("recipient", "lines", "postal_code", "country_code", "phone")
    RECIPIENT_FIELD_NUMBER: _ClassVar[int]
    LINES_FIELD_NUMBER: _ClassVar[int]
    POSTAL_CODE_FIELD_NUMBER: _ClassVar[int]
    COUNTRY_CODE_FIELD_NUMBER: _ClassVar[int]
    PHONE_FIELD_NUMBER: _ClassVar[int]
    recipient: str
    lines: _containers.RepeatedScalarFieldContainer[str]
    postal_code: str
    country_code: str
    phone: str
    def __init__(self, recipient: _Optional[str] = ..., lines: _Optional[_Iterable[str]] = ..., postal_code: _Optional[str] = ..., country_code: _Optional[str] = ..., phone: _Optional[str] = ...) -> None: ...

class Dimensions(_message.Message):
    __slots__ = ("length_mm", "width_mm", "height_mm")
    LENGTH_MM_FIELD_NUMBER: _ClassVar[int]
    WIDTH_MM_FIELD_NUMBER: _ClassVar[int]
    HEIGHT_MM_FIELD_NUMBER: _ClassVar[int]
    length_mm: int
    width_mm: int
    height_mm: int
    def __init__(self, length_mm: _Optional[int] = ..., width_mm: _Optional[int] = ..., height_mm: _Optional[int] = ...) -> None: ...

class Item(_message.Message):
    __slots__ = ("sku", "quantity", "value")
    SKU_FIELD_NUMBER: _ClassVar[int]
    QUANTITY_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    sku: str
    quantity: int
    value: Money
    def __init__(self, sku: _Optional[str] = ..., quantity: _Optional[int] = ..., value: _Optional[_Union[Money, _Mapping]] = ...) -> None: ...

class Money(_message.Message):
    __slots__ = ("currency_code", "amount_cents")
    CURRENCY_CODE_FIELD_NUMBER: _ClassVar[int]
    AMOUNT_CENTS_FIELD_NUMBER: _ClassVar[int]
    currency_code: str
    amount_cents: int
    def __init__(self, currency_code: _Optional[str] = ..., amount_cents: _Optional[int] = ...) -> None: ...

from google.protobuf import duration_pb2 as _duration_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from logistics.v1 import package_pb2 as _package_pb2
from waybill.v1 import options_pb2 as _options_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Iterable as _Iterable, Mapping as _Mapping, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class DelayReason(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    DELAY_REASON_UNSPECIFIED: _ClassVar[DelayReason]
    DELAY_REASON_WEATHER: _ClassVar[DelayReason]
    DELAY_REASON_TRAFFIC: _ClassVar[DelayReason]
    DELAY_REASON_CUSTOMS: _ClassVar[DelayReason]
    DELAY_REASON_ADDRESS_UNKNOWN: _ClassVar[DelayReason]
DELAY_REASON_UNSPECIFIED: DelayReason
DELAY_REASON_WEATHER: DelayReason
DELAY_REASON_TRAFFIC: DelayReason
DELAY_REASON_CUSTOMS: DelayReason
DELAY_REASON_ADDRESS_UNKNOWN: DelayReason

class PackageCreatedEvent(_message.Message):
    __slots__ = ("package", "sender_id")
    PACKAGE_FIELD_NUMBER: _ClassVar[int]
    SENDER_ID_FIELD_NUMBER: _ClassVar[int]
    package: _package_pb2.Package
    sender_id: str
    def __init__(self, package: _Optional[_Union[_package_pb2.Package, _Mapping]] = ..., sender_id: _Optional[str] = ...) -> None: ...

class PackageDeliveredEvent(_message.Message):
    __slots__ = ("package", "delivered_at", "signature", "photo_key", "pin_code")
    class Signature(_message.Message):
        __slots__ = ("signed_by", "image_png")
        SIGNED_BY_FIELD_NUMBER: _ClassVar[int]
        IMAGE_PNG_FIELD_NUMBER: _ClassVar[int]
        signed_by: str
        image_png: bytes
        def __init__(self, signed_by: _Optional[str] = ..., image_png: _Optional[bytes] = ...) -> None: ...
    PACKAGE_FIELD_NUMBER: _ClassVar[int]
    DELIVERED_AT_FIELD_NUMBER: _ClassVar[int]
    SIGNATURE_FIELD_NUMBER: _ClassVar[int]
    PHOTO_KEY_FIELD_NUMBER: _ClassVar[int]
    PIN_CODE_FIELD_NUMBER: _ClassVar[int]
    package: _package_pb2.Package
    delivered_at: _timestamp_pb2.Timestamp
    signature: PackageDeliveredEvent.Signature
    photo_key: str
    pin_code: int
    def __init__(self, package: _Optional[_Union[_package_pb2.Package, _Mapping]] = ..., delivered_at: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ..., signature: _Optional[_Union[PackageDeliveredEvent.Signature, _Mapping]] = ..., photo_key: _Optional[str] = ..., pin_code: _Optional[int] = ...) -> None: ...

class PackageDelayedEvent(_message.Message):
    __slots__ = ("package_id", "delay", "reason", "note", "minutes_lost_by_hub")
    class MinutesLostByHubEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    PACKAGE_ID_FIELD_NUMBER: _ClassVar[int]
    DELAY_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    NOTE_FIELD_NUMBER: _ClassVar[int]
    MINUTES_LOST_BY_HUB_FIELD_NUMBER: _ClassVar[int]
    package_id: str
    delay: _duration_pb2.Duration
    reason: DelayReason
    note: str
    minutes_lost_by_hub: _containers.ScalarMap[str, int]
    def __init__(self, package_id: _Optional[str] = ..., delay: _Optional[_Union[_duration_pb2.Duration, _Mapping]] = ..., reason: _Optional[_Union[DelayReason, str]] = ..., note: _Optional[str] = ..., minutes_lost_by_hub: _Optional[_Mapping[str, int]] = ...) -> None: ...

class RouteAssignedEvent(_message.Message):
    __slots__ = ("route_id", "driver_id", "departs_at", "stops", "first_stop_by_district")
    class FirstStopByDistrictEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: RouteAssignedEvent.Stop
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[RouteAssignedEvent.Stop, _Mapping]] = ...) -> None: ...
    class Stop(_message.Message):
        __slots__ = ("package_id", "address", "planned_at", "latitude", "longitude")
        PACKAGE_ID_FIELD_NUMBER: _ClassVar[int]
        ADDRESS_FIELD_NUMBER: _ClassVar[int]
        PLANNED_AT_FIELD_NUMBER: _ClassVar[int]
        LATITUDE_FIELD_NUMBER: _ClassVar[int]
        LONGITUDE_FIELD_NUMBER: _ClassVar[int]
        package_id: str
        address: _package_pb2.Address
        planned_at: _timestamp_pb2.Timestamp
        latitude: float
        longitude: float
        def __init__(self, package_id: _Optional[str] = ..., address: _Optional[_Union[_package_pb2.Address, _Mapping]] = ..., planned_at: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ..., latitude: _Optional[float] = ..., longitude: _Optional[float] = ...) -> None: ...
    ROUTE_ID_FIELD_NUMBER: _ClassVar[int]
    DRIVER_ID_FIELD_NUMBER: _ClassVar[int]
    DEPARTS_AT_FIELD_NUMBER: _ClassVar[int]
    STOPS_FIELD_NUMBER: _ClassVar[int]
    FIRST_STOP_BY_DISTRICT_FIELD_NUMBER: _ClassVar[int]
    route_id: int
    driver_id: str
    departs_at: _timestamp_pb2.Timestamp
    stops: _containers.RepeatedCompositeFieldContainer[RouteAssignedEvent.Stop]
    first_stop_by_district: _containers.MessageMap[str, RouteAssignedEvent.Stop]
    def __init__(self, route_id: _Optional[int] = ..., driver_id: _Optional[str] = ..., departs_at: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ..., stops: _Optional[_Iterable[_Union[RouteAssignedEvent.Stop, _Mapping]]] = ..., first_stop_by_district: _Optional[_Mapping[str, RouteAssignedEvent.Stop]] = ...) -> None: ...

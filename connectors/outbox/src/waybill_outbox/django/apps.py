from django.apps import AppConfig


class OutboxConfig(AppConfig):
    name = "waybill_outbox.django"
    label = "waybill_outbox"
    verbose_name = "Waybill outbox"

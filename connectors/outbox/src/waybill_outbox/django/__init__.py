"""Django app: add "waybill_outbox.django" to INSTALLED_APPS, then migrate."""

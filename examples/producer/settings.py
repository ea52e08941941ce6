"""Settings from the environment: DATABASE_URL=postgresql://user:password@host:port/database."""

import os
from urllib.parse import unquote, urlsplit

_url = urlsplit(os.environ["DATABASE_URL"])

DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": unquote(_url.path.removeprefix("/")),
        "USER": unquote(_url.username or ""),
        "PASSWORD": unquote(_url.password or ""),
        "HOST": _url.hostname,
        "PORT": _url.port,
    }
}
INSTALLED_APPS = [
    "waybill_outbox.django",
    "examples.producer.packages",
]
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
USE_TZ = True

# How this service is called in its events (ce_source).
WAYBILL_SOURCE = "logistics"

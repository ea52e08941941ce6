"""Django's manage.py: ``DATABASE_URL=postgresql://... python -m examples.producer migrate``."""

import os

from django.core.management import execute_from_command_line

os.environ["DJANGO_SETTINGS_MODULE"] = "examples.producer.settings"
execute_from_command_line()

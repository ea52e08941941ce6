"""A Django service that tells others about its packages.  Begin with ``packages/services.py``."""

"""The compactor: from ``hot/`` to the files of ``main/``."""

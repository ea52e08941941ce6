"""The sink: from Kafka to the segments of ``hot/``, and what cannot be a row to ``quarantine/``."""

"""Every Prometheus metric of the lake's sink."""

from prometheus_client import Counter, Gauge

ROWS = Counter("waybill_lake_rows_total", "Rows of published segments.", ["topic"])
FILES = Counter("waybill_lake_files_total", "Published segments, by why they were closed.", ["topic", "reason"])
LOST_RACES = Counter("waybill_lake_lost_races_total", "Segments that another sink had published first.", ["topic"])
QUARANTINED = Counter("waybill_lake_quarantined_total", "Records put into quarantine.", ["topic"])
HELD_BYTES = Gauge("waybill_lake_held_bytes", "Memory of records that are in no file yet.")
DUE = Gauge("waybill_lake_due_segments", "Segments that are to be published and are not yet.")
STORAGE_AWAY = Gauge("waybill_lake_storage_away_seconds", "For how long the storage has taken nothing; 0 if it does.")
COMMIT_AGE = Gauge("waybill_lake_commit_age_seconds", "Age of the oldest record read and not yet published; 0 if none.")

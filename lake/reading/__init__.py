"""What readers see: each record once, whatever the compactor is at."""

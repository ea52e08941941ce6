"""Whether all of it is there, and another try at what is in quarantine."""

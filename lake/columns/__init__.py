"""From a payload to columns: the types, and how they are decoded."""

"""A service that saves events, three that receive them, and a demo that runs them all (``make demo``)."""

import sys
from pathlib import Path

# The stubs of the shared protobuf repository, made by `make proto`; a team would install them as a package.
sys.path.append(str(Path(__file__).parent / "stubs"))

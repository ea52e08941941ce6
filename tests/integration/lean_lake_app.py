"""As ``lake_app``, with what production has: of the tests' packages Arrow imports these two, 50 MB, where they are."""

import sys

sys.modules |= {"numpy": None, "pandas": None}

from lake_app import app  # noqa: E402, F401 - Faust's

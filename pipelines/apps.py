"""The Faust apps, made by name when they are asked for: ``faust -A pipelines.apps:service_a worker``.

Every public name of this module would hide a consumer of that name, so it has none.
"""

import sys as _sys

from connectors import settings as _settings
from connectors.kafka import App as _App
from connectors.problems import Problem as _Problem
from pipelines import wiring as _wiring


def __getattr__(name: str) -> _App:
    if name.startswith("_"):
        raise AttributeError(name)
    try:
        told = _settings.load()
        app = _wiring.replay_app(told) if name == "replay" else _wiring.consumer_app(name, told)
    except _Problem as problem:
        _sys.stderr.write(f"error: {problem}\n")  # Faust's command line would show a traceback
        raise SystemExit(problem.exit_code) from problem
    globals()[name] = app
    return app

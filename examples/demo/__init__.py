"""The demo: everything on one machine, broken on purpose, and a ledger at the end.

``story`` is what happens, ``ledger`` decides whether all promises were kept.  The services themselves are beside this
folder, in ``examples.producer`` and ``examples.consumers``.
"""

"""Three services that receive events: ``python -m examples.consumers.billing HOST:PORT DATABASE``.

Begin with ``billing.py``.  What each subscribed to stands in ``config/consumers``; none knows of Kafka or of Waybill.
"""

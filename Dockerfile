# The broker: every worker and the `waybill` command.  One image; the command decides what it is.
FROM python:3.11-slim

WORKDIR /waybill

COPY requirements.txt ./
RUN pip install --no-cache-dir --disable-pip-version-check --require-hashes --no-deps -r requirements.txt

RUN useradd --system --uid 10001 waybill \
    && install --directory --owner=waybill /var/lib/waybill/lake \
    && printf '#!/usr/local/bin/python\nfrom pipelines.cli import main\n\nmain()\n' > /usr/local/bin/waybill \
    && chmod +x /usr/local/bin/waybill

COPY connectors connectors
COPY pipelines pipelines
COPY lake lake

# Configuration and descriptors belong to whoever runs it: mount them at /waybill/config and /waybill/proto.
ENV PYTHONPATH=/waybill \
    PYTHONDONTWRITEBYTECODE=1 \
    WAYBILL_LAKE_ROOT=/var/lib/waybill/lake

USER waybill
ENTRYPOINT ["waybill"]
CMD ["--help"]

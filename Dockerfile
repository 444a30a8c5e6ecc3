# One image, three roles: `penstock gateway` (the default), `penstock runner`, `penstock migrate`.
# Everything is set from the environment: PENSTOCK_DATABASE_URL, PENSTOCK_REDIS_URL, and PENSTOCK_*_FILE for secrets.

FROM python:3.13-slim AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
RUN python -m venv /opt/penstock
WORKDIR /source
COPY pyproject.toml README.md LICENSE ./
COPY gateway gateway
COPY runner runner
COPY schemas schemas
COPY migrations migrations
COPY examples examples
RUN /opt/penstock/bin/pip install .

FROM python:3.13-slim
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="Penstock" \
      org.opencontainers.image.description="An event-driven webhook gateway with token-secured schedules" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
RUN useradd --uid 10001 --create-home --home-dir /home/penstock --shell /usr/sbin/nologin penstock \
    && install -d -o penstock -g penstock /pipelines /data
COPY --from=build /opt/penstock /opt/penstock
ENV PATH=/opt/penstock/bin:$PATH \
    PYTHONSAFEPATH=1 \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    PENSTOCK_HOST=0.0.0.0 \
    PENSTOCK_PIPELINES=/pipelines \
    PENSTOCK_DATA=/data \
    PENSTOCK_RELOAD=false
USER 10001:10001
WORKDIR /home/penstock
EXPOSE 8787
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 CMD ["penstock", "doctor", "--gateway-only"]
ENTRYPOINT ["penstock"]
CMD ["gateway"]

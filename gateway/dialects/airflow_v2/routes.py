"""Airflow 3's routes, each group in a module of its own."""

from gateway.dialects.airflow_v2 import backfills, catalog, entry, runs, tasks

handlers = (*entry.handlers, *catalog.handlers, *runs.handlers, *tasks.handlers, *backfills.handlers)

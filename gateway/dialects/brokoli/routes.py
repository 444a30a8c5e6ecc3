"""Brokoli's routes, by what they are about."""

from gateway.dialects.brokoli import overviews, pipelines, runs, watching, webhooks

handlers = (*pipelines.handlers, *webhooks.handlers, *runs.handlers, *overviews.handlers, *watching.handlers)

"""Maestro: the pipeline API of Dadosfera, as its public reference describes it."""

from gateway.dialects import Dialect
from gateway.dialects.maestro.errors import envelope
from gateway.dialects.maestro.routes import handlers

dialect = Dialect(name="maestro", title="Dadosfera Maestro", handlers=handlers, envelopes={"/platform": envelope})

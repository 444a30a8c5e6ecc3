"""What every handler is given."""

from typing import Any

from litestar import Request
from litestar.di import NamedDependency

from gateway.core import Core
from gateway.draining import Draining
from schemas.keys import Caller

AnyRequest = Request[Any, Any, Any]
TheCore = NamedDependency[Core]
TheCaller = NamedDependency[Caller]
TheDraining = NamedDependency[Draining]

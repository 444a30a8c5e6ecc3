"""Where Brokoli's clients put our keys: for a WebSocket also into the query, since browsers set no headers there."""

from gateway.auth import Keys, bearer, header, parameter

KEYS = Keys((bearer, header("x-api-key")))
SOCKET_KEYS = Keys((*KEYS.readers, parameter("token")))

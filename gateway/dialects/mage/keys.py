"""Where Mage's clients put our keys: in each place where Mage looks for its API key or for a session's token."""

from gateway.auth import Keys, bearer, header, member, parameter

KEYS = Keys((bearer, header("oauth-token"), header("x-api-key"), parameter("api_key"), member("api_key")))

"""What can be said of secrets before they are saved, so that it is no surprise at the first delivery."""

from collections.abc import Callable

from schemas.errors import FieldError, Invalid
from schemas.schedules import SourceConfig


def check_secrets(config: SourceConfig, is_good: Callable[[str], bool], message: str) -> None:
    """Raise Invalid that points, with `message`, at each secret that can never work."""
    wrong = [place for place, secret in enumerate(config.secrets) if not is_good(secret)]
    if wrong:
        raise Invalid(errors=tuple(FieldError(f"/source_config/secrets/{place}", message) for place in wrong))

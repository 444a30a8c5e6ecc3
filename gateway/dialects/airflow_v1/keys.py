"""Where Airflow 2's clients put our keys: in the password of Basic auth, of any user, or in a Bearer token."""

from gateway.auth import Guard, Keys, basic_password, bearer, needs
from schemas.states import Role

KEYS = Keys((basic_password, bearer), challenge='Basic realm="Penstock"')


def may(role: Role) -> Guard:
    """Make a guard that lets only callers in whose role covers this one."""
    return needs(role, KEYS)

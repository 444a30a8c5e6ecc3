"""Where Airflow's clients put our keys: in the token that `/auth/token` gave them, or, as in Airflow 2, a password."""

from gateway.auth import Guard, Keys, basic_password, bearer, needs
from schemas.states import Role

KEYS = Keys((bearer, basic_password))


def may(role: Role) -> Guard:
    """Make a guard that lets only callers in whose role covers this one."""
    return needs(role, KEYS)

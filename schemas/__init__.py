"""What gateway and runner must agree on: shapes, states, errors, settings, the doorbell, and the SQL."""

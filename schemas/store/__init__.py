"""The only Python that sends SQL: one .py and one .sql per table, typed functions around named queries.

A query begins with `-- name: what` or, when its rows become a Struct, `-- name: what -> Struct`; the tests prepare each
against the migrated database and compare its columns with the Struct's fields.
"""

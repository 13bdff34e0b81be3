//! Behaviours of the whole connector live in `tests/`.

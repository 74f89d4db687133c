"""Environments on the host: versions, operations, and the contents that nodes fetch. Talks to no engine."""

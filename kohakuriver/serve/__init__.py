"""The composition root: a role and its configuration become parts, each role in one TaskGroup."""

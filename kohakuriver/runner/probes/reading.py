"""How a probe answers."""


class Missing(Exception):
    """The probe is off; the message says why."""

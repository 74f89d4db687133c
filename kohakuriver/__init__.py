"""KohakuRiver: a lab's machines as one computer."""

__version__ = "0.1.0"

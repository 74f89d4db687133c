"""The standard HTTP client, loaded without TLS where nothing has loaded that yet: a third of its loading time.

`http.client` then lacks HTTPSConnection in this process; TLS is put under its connections by `client.tls`.
"""

import sys

_spared = "ssl" not in sys.modules and "http.client" not in sys.modules
if _spared:
    # how an interpreter without TLS looks to it: the import fails, and it goes on without
    sys.modules["ssl"] = None  # type: ignore[assignment]
try:
    import http.client
finally:
    if _spared:
        del sys.modules["ssl"]

__all__ = ["http"]

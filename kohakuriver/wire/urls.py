"""Every path of the HTTP API as a template; server and clients share it."""

from urllib.parse import quote, urlencode

API = "/api/v1"

LINK = "/link"
STREAM = "/stream/{ticket}"
LIVEZ = "/livez"
READYZ = "/readyz"
HEALTHZ = "/healthz"
VERSION = "/version"
METRICS = "/metrics"
OPENAPI = "/openapi.json"

STATUS = API + "/status"
JOIN = API + "/join"
EVENTS = API + "/events"

SETUP = API + "/auth/setup"
LOGIN = API + "/auth/login"
LOGOUT = API + "/auth/logout"
ME = API + "/auth/me"
PASSWORD = API + "/auth/password"
TOKENS = API + "/auth/tokens"
TOKEN = API + "/auth/tokens/{token}"
SESSIONS = API + "/auth/sessions"
SESSION = API + "/auth/sessions/{session}"

TASKS = API + "/tasks"
TASK = API + "/tasks/{task}"
TASK_EXPLAIN = API + "/tasks/{task}/explain"
TASK_HISTORY = API + "/tasks/{task}/history"
TASK_ATTEMPTS = API + "/tasks/{task}/attempts"
TASK_OUTPUT = API + "/tasks/{task}/output/{stream}"
TASK_WAIT = API + "/tasks/{task}/wait"
TASK_KILL = API + "/tasks/{task}/kill"
TASK_PAUSE = API + "/tasks/{task}/pause"
TASK_RESUME = API + "/tasks/{task}/resume"
TASK_APPROVE = API + "/tasks/{task}/approve"
TASK_REJECT = API + "/tasks/{task}/reject"
TASK_REQUEUE = API + "/tasks/{task}/requeue"
TASK_LOSE = API + "/tasks/{task}/declare-lost"

BATCH = API + "/batches/{batch}"
BATCH_KILL = BATCH + "/kill"
BATCH_PAUSE = BATCH + "/pause"
BATCH_RESUME = BATCH + "/resume"

NODES = API + "/nodes"
NODE = API + "/nodes/{node}"
NODE_HEALTH = API + "/nodes/{node}/health"
PLAN = API + "/plan"
NODE_LABELS = API + "/nodes/{node}/labels"
NODE_DRAIN = API + "/nodes/{node}/drain"
NODE_UNDRAIN = API + "/nodes/{node}/undrain"
NODE_CORDON = API + "/nodes/{node}/cordon"
NODE_UNCORDON = API + "/nodes/{node}/uncordon"
NODE_REVOKE = API + "/nodes/{node}/revoke"
NODE_TOKENS = API + "/node-tokens"

USERS = API + "/users"
USER = API + "/users/{user}"
USER_LIMITS = API + "/users/{user}/limits"
USER_SETUP = API + "/users/{user}/setup-link"

GPUS = API + "/gpus"
USE = API + "/use"
PLUGINS = API + "/plugins"


def fill(template: str, query: dict[str, object] | None = None, **parts: str) -> str:
    """The path with its parts percent-encoded, and a query without empty values."""
    path = template.format(**{name: quote(str(value), safe="") for name, value in parts.items()})
    pairs = [(key, str(value)) for key, value in (query or {}).items() if value is not None]
    return f"{path}?{urlencode(pairs)}" if pairs else path

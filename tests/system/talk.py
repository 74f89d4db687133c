"""A thin HTTP client for the tests: one connection a request, answers as they are."""

import http.client
import json
import ssl
import time
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import urlsplit

#: statuses that a task never leaves
FINAL = {"completed", "failed", "killed", "killed_oom", "timed_out", "lost", "rejected", "stopped", "removed"}


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass(frozen=True)
class Talk:
    """The host at a URL, asked with a token. `source` is an address of this machine to speak from."""

    url: str
    token: str = ""
    timeout: float = 60.0

    def ask(self, method: str, path: str, body: Any = None, **headers: str) -> Answer:
        """The answer, whatever its status. OSError or HTTPException when there is none."""
        connection = self.connect()
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        if self.token:
            sent["Authorization"] = f"Bearer {self.token}"
        data = None
        if body is not None:
            data, sent["Content-Type"] = json.dumps(body).encode(), "application/json"
        try:
            connection.request(method, path, body=data, headers=sent)
            response = connection.getresponse()
            return Answer(response.status, {k.lower(): v for k, v in response.getheaders()}, response.read())
        finally:
            connection.close()

    def connect(self) -> http.client.HTTPConnection:
        parts = urlsplit(self.url)
        assert parts.hostname is not None
        if parts.scheme == "https":
            context = ssl.create_default_context()
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
            return http.client.HTTPSConnection(parts.hostname, parts.port, timeout=self.timeout, context=context)
        return http.client.HTTPConnection(parts.hostname, parts.port, timeout=self.timeout)

    def get(self, path: str) -> Any:
        """The JSON of an answer that must be good."""
        answer = self.ask("GET", path)
        assert answer.status == 200, f"GET {path}: {answer.status} {answer.body[:2000]!r}"
        return answer.json

    def post(self, path: str, body: Any = None, *, status: int | None = None, **headers: str) -> Any:
        answer = self.ask("POST", path, {} if body is None else body, **headers)
        good = answer.status < 300 if status is None else answer.status == status
        assert good, f"POST {path}: {answer.status} {answer.body[:2000]!r}"
        return answer.json

    def signed_in(self, token: str) -> "Talk":
        return replace(self, token=token)

    # what the tests ask most

    def submit(self, *command: str, **fields: Any) -> str:
        """One task; its id."""
        (task,) = self.post("/api/v1/tasks", {"command": list(command), **fields})["tasks"]
        return str(task)

    def task(self, task: str) -> dict[str, Any]:
        return dict(self.get(f"/api/v1/tasks/{task}"))

    def status(self, task: str) -> str:
        return str(self.task(task)["status"])

    def change(self, verb: str, task: str, body: Any = None) -> dict[str, Any]:
        return dict(self.post(f"/api/v1/tasks/{task}/{verb}", body))

    def history(self, task: str) -> list[dict[str, Any]]:
        return list(self.get(f"/api/v1/tasks/{task}/history")["items"])

    def node(self, name: str) -> dict[str, Any]:
        return dict(self.get(f"/api/v1/nodes/{name}"))

    def output(self, task: str, stream: str = "stdout") -> bytes:
        answer = self.ask("GET", f"/api/v1/tasks/{task}/output/{stream}")
        assert answer.status == 200, f"output of {task}: {answer.status} {answer.body[:500]!r}"
        return answer.body

    def all_tasks(self) -> dict[str, dict[str, Any]]:
        """Every task by id, page by page."""
        found: dict[str, dict[str, Any]] = {}
        cursor = ""
        while True:
            page = self.get(f"/api/v1/tasks?limit=200{cursor}")
            found |= {task["id"]: task for task in page["items"]}
            if page["next"] is None:
                return found
            cursor = f"&cursor={page['next']}"

    def alive(self) -> bool:
        try:
            return self.ask("GET", "/readyz").status == 200
        except (OSError, http.client.HTTPException):
            return False

    def persist(self, method: str, path: str, body: Any = None, *, within: float = 60.0, **headers: str) -> Answer:
        """As `ask`, again and again while the host is away; for what is safe to ask twice."""
        deadline = time.monotonic() + within
        while True:
            try:
                answer = self.ask(method, path, body, **headers)
                if answer.status != 503 or time.monotonic() > deadline:
                    return answer
            except (OSError, http.client.HTTPException):
                if time.monotonic() > deadline:
                    raise
            time.sleep(0.1)

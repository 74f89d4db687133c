"""The route table: every row has a policy, the router serves it, the document describes it, strangers stay out."""

from dataclasses import replace

import msgspec
import pytest

from kohakuriver.domain.access import RULES, Who
from kohakuriver.web.app import make_app
from kohakuriver.web.openapi import make_document, problem_statuses
from kohakuriver.web.routes import ROUTES
from kohakuriver.wire import urls

PUBLIC = {"/livez", "/readyz", "/healthz", "/api/v1/auth/login", "/api/v1/auth/setup", "/api/v1/join"}


def filled(path):
    return urls.fill(path, **{piece.partition("}")[0]: "stdout" for piece in path.split("{")[1:]})


def test_every_row_has_a_policy_and_a_name_of_its_own():
    assert [route.path for route in ROUTES if route.policy is None] == []
    names = [route.operation for route in ROUTES]
    assert len(set(names)) == len(names)


async def test_a_route_without_a_policy_stops_the_start(host):
    with pytest.raises(ValueError, match="declares no policy"):
        make_app(host, [replace(ROUTES[0], policy=None)])


async def test_two_rows_for_one_path_stop_the_start(host):
    with pytest.raises((ValueError, RuntimeError)):
        make_app(host, [ROUTES[0], ROUTES[0]])


async def test_router_and_document_have_the_same_routes(host):
    app = make_app(host)
    served = {(route.method, route.resource.canonical) for route in app.router.routes()}
    document = make_document(ROUTES)
    described = {(method.upper(), path) for path, item in document["paths"].items() for method in item}
    sockets = {(socket["method"], socket["path"]) for socket in document["x-sockets"]}
    assert served == described | sockets
    assert sockets == {("GET", urls.LINK), ("GET", urls.STREAM), ("GET", urls.CONTAINER_SHELL)}


def test_every_path_of_the_clients_is_served():
    known = {value for name, value in vars(urls).items() if name.isupper() and value.startswith("/")} - {urls.API}
    assert known == {route.path for route in ROUTES}


def test_the_document_is_whole():
    document = make_document(ROUTES)
    text = msgspec.json.encode(document).decode()
    for piece in text.split('"#/components/schemas/')[1:]:
        assert piece.partition('"')[0] in document["components"]["schemas"]
    for path, item in document["paths"].items():
        for operation in item.values():
            named = {one["name"] for one in operation["parameters"] if one["in"] == "path"}
            assert named == {piece.partition("}")[0] for piece in path.split("{")[1:]}


def test_the_public_routes_are_these_and_no_others():
    assert {route.path for route in ROUTES if RULES[route.policy].who is Who.ANYONE} == PUBLIC


async def test_strangers_get_nothing_but_the_public_routes(web):
    for route in ROUTES:
        answer = await web.ask(route.method, filled(route.path), headers={"X-Forwarded-For": "192.0.2.1"})
        if route.path in PUBLIC:
            assert answer.status != 401, route.path
        else:
            assert answer.status == 401, route.path
            assert answer.json["code"] == "not_signed_in"
            assert answer.headers["WWW-Authenticate"].startswith("Bearer")


async def test_a_credential_of_another_kind_opens_nothing(web, host):
    for route in ROUTES:
        people = RULES[route.policy].who is Who.PEOPLE
        token = "krn_x" if people else web.tokens["admin"]
        if route.path not in PUBLIC:
            headers = {"Authorization": f"Bearer {token}", "X-Forwarded-For": "192.0.2.1"}
            assert (await web.ask(route.method, filled(route.path), headers=headers)).status == 401, route.path


#: who passes the door, by route; what lies behind it may still refuse the thing
EXPECTED = {
    "viewer": {
        "show_document", "show_version", "show_metrics", "log_out", "show_me", "change_password", "list_tokens",
        "create_token", "revoke_token", "list_sessions", "revoke_session", "show_user", "list_tasks", "show_task",
        "explain_task", "list_history", "list_attempts", "read_output", "wait_task", "list_nodes", "show_node",
        "list_samples", "show_status", "list_plugins", "show_batch", "list_cards", "show_use",
    },
    "user": {
        "create_tasks", "plan_tasks", "kill_task", "pause_task", "resume_task", "requeue_task", "kill_batch", "pause_batch", "resume_batch",
        "list_environments", "show_environment", "list_images", "list_node_images",
    },
    # the history; the stream of changes is everybody's
    "operator": {
        "list_events", "create_user", "approve_task", "reject_task", "declare_task_lost", "drain_node", "undrain_node",
        "cordon_card", "uncordon_card", "label_node", "limit_user",
        "remove_environment", "remove_version", "build_version", "import_version", "publish_reference", "list_stored",
        "list_operations", "show_operation", "list_containers", "create_container", "start_container", "stop_container",
        "delete_container", "package_container", "container_shell", "list_files", "delete_file", "stat_file", "read_file",
        "write_file", "make_folder", "rename_file",
    },
    "admin": {"list_users", "change_user", "create_setup_link", "revoke_node", "create_node_token"},
}  # fmt: skip


async def test_each_role_passes_the_doors_that_are_its_own(web):
    allowed = set()
    rows = [route for route in ROUTES if RULES[route.policy].who is Who.PEOPLE and route.operation != "log_out"]
    for role, names in EXPECTED.items():
        allowed |= names
        for route in rows:
            path = filled(route.path) if route.operation != "show_user" else f"{urls.USERS}/{role}"
            answer = await web.ask(route.method, path, as_=role, data=b"[" if route.body else None)
            passed = not (answer.status == 403 and "needs the role" in answer.json["detail"])
            assert passed == (route.operation in allowed), (role, route.operation, answer.status)
    assert allowed == {route.operation for route in rows} | {"log_out"}


async def test_every_answer_has_a_status_that_the_document_knows(web):
    for route in ROUTES:
        if route.socket or route.operation == "log_out":
            continue
        for body in (None, b"{}", b"[", b'{"x": 1}'):
            headers = {"Content-Type": "application/json"} if body else {}
            answer = await web.ask(route.method, filled(route.path), as_="admin", data=body, headers=headers)
            assert answer.status == route.status or answer.status in problem_statuses(route), route.operation
            assert answer.status != 500, (route.operation, answer.body)


def test_a_problem_answers_every_failing_status():
    for operation in (one for item in make_document(ROUTES)["paths"].values() for one in item.values()):
        for status, answer in operation["responses"].items():
            if int(status) >= 400:
                assert "application/problem+json" in answer["content"]

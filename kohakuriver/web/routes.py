"""Every route and socket of the host in one table, each with its policy. `app.py` serves these rows and nothing else;
`openapi.py` describes the same rows.
"""

from kohakuriver.domain.access import Action
from kohakuriver.web.api import accounts, batches, cluster, document, events, nodes, tasks
from kohakuriver.web.api.cluster import METRICS_TYPE
from kohakuriver.web.api.events import NDJSON, SSE
from kohakuriver.web.api.tasks import BYTES
from kohakuriver.web.call import Route
from kohakuriver.web.environment_routes import ENVIRONMENTS
from kohakuriver.web.sockets.link import link
from kohakuriver.web.sockets.stream import stream
from kohakuriver.wire import api, many, people, placing, queries, urls, use

JSON = "application/json"

OPEN = (
    Route(
        method="GET", path=urls.LIVEZ, handler=cluster.show_liveness, policy=Action.HEALTH, answer=api.HealthView,
        summary="Whether the process answers.",
    ),
    Route(
        method="GET", path=urls.READYZ, handler=cluster.show_readiness, policy=Action.HEALTH, answer=api.HealthView,
        query=queries.HealthQuery, summary="Whether the host can do its work; `?verbose` lists the checks.",
    ),
    Route(
        method="GET", path=urls.HEALTHZ, name="show_health", handler=cluster.show_readiness, policy=Action.HEALTH,
        query=queries.HealthQuery, answer=api.HealthView, summary="The same as /readyz.",
    ),
    Route(
        method="GET", path=urls.VERSION, handler=cluster.show_version, policy=Action.ABOUT, answer=api.VersionView,
        summary="What answers here.",
    ),
    Route(
        method="GET", path=urls.OPENAPI, handler=document.show_document, policy=Action.ABOUT, answer=dict,
        summary="This document.",
    ),
    Route(
        method="GET", path=urls.METRICS, handler=cluster.show_metrics, policy=Action.METRICS, loopback=True,
        media=(METRICS_TYPE,), answer=str, summary="Numbers for monitoring: from this machine, or with a token.",
    ),
    Route(
        method="POST", path=urls.JOIN, handler=nodes.join, policy=Action.ENROL, body=api.Join, answer=api.Joined,
        status=201, summary="A machine becomes a node, with a one-use token.",
    ),
    Route(method="GET", path=urls.LINK, handler=link, policy=Action.LINK, socket=True, summary="A runner's link."),
    Route(
        method="GET", path=urls.STREAM, handler=stream, policy=Action.LINK, socket=True,
        summary="A stream that a runner opens because it was asked to.",
    ),
)  # fmt: skip

ACCOUNTS = (
    Route(
        method="POST", path=urls.SETUP, handler=accounts.set_up, policy=Action.SIGN_IN, body=people.Setup,
        answer=people.SignedIn, summary="First use of an account, with its one-time secret.",
    ),
    Route(
        method="POST", path=urls.LOGIN, handler=accounts.log_in, policy=Action.SIGN_IN, body=people.Login,
        answer=people.SignedIn, summary="Sign in by password, for a session cookie or for a token with a name.",
    ),
    Route(
        method="POST", path=urls.LOGOUT, handler=accounts.log_out, policy=Action.SELF, status=204,
        summary="End this session, or the token that a password was exchanged for.",
    ),
    Route(
        method="GET", path=urls.ME, handler=accounts.show_me, policy=Action.SELF, answer=people.UserView,
        summary="Who one is.",
    ),
    Route(
        method="POST", path=urls.PASSWORD, handler=accounts.change_password, policy=Action.PASSWORD_CHANGE, status=204,
        body=people.ChangePassword, summary="A new password for oneself; ends all other sessions.",
    ),
    Route(
        method="GET", path=urls.TOKENS, handler=accounts.list_tokens, policy=Action.SELF, query=queries.Paging,
        answer=api.Page[people.TokenView], summary="One's own tokens.",
    ),
    Route(
        method="POST", path=urls.TOKENS, handler=accounts.create_token, policy=Action.TOKEN_MINT, status=201,
        body=people.NewToken, answer=people.TokenView, key="once", summary="A token for programs, shown once.",
    ),
    Route(
        method="DELETE", path=urls.TOKEN, handler=accounts.revoke_token, policy=Action.TOKEN_REVOKE, status=204,
        summary="End a token at once.",
    ),
    Route(
        method="GET", path=urls.SESSIONS, handler=accounts.list_sessions, policy=Action.SELF, query=queries.Paging,
        answer=api.Page[people.SessionView], summary="One's own signed-in browsers.",
    ),
    Route(
        method="DELETE", path=urls.SESSION, handler=accounts.revoke_session, policy=Action.SELF, status=204,
        summary="Sign one of them out.",
    ),
    Route(
        method="GET", path=urls.USERS, handler=accounts.list_users, policy=Action.USER_LIST, query=queries.Paging,
        answer=api.Page[people.UserView], summary="Accounts by name.",
    ),
    Route(
        method="POST", path=urls.USERS, handler=accounts.create_user, policy=Action.USER_INVITE, status=201,
        body=people.NewUser, answer=people.SetupLink, key="once", summary="A new account and its one-time set-up link.",
    ),
    Route(
        method="GET", path=urls.USER, handler=accounts.show_user, policy=Action.SELF, answer=people.UserView,
        summary="One account: one's own, or as an admin.",
    ),
    Route(
        method="PATCH", path=urls.USER, handler=accounts.change_user, policy=Action.USER_CHANGE, body=people.ChangeUser,
        answer=people.UserView, summary="Role, name, limit, or whether it may sign in.",
    ),
    Route(
        method="PATCH", path=urls.USER_LIMITS, handler=accounts.limit_user, policy=Action.USER_LIMIT,
        body=people.LimitUser, answer=people.UserView, summary="What an account may have at once.",
    ),
    Route(
        method="POST", path=urls.USER_SETUP, handler=accounts.create_setup_link, policy=Action.USER_CHANGE, status=201,
        answer=people.SetupLink, key="once", summary="A new one-time set-up link; older ones end.",
    ),
)  # fmt: skip

TASKS = (
    Route(
        method="GET", path=urls.TASKS, handler=tasks.list_tasks, policy=Action.TASK_LIST, query=queries.TaskQuery,
        answer=api.Page[api.TaskView], summary="Tasks, newest first unless sorted otherwise.",
    ),
    Route(
        method="POST", path=urls.PLAN, handler=tasks.plan_tasks, policy=Action.TASK_SUBMIT, body=api.SubmitTask,
        answer=placing.PlanView, summary="What a submission would mean now; nothing is stored.",
    ),
    Route(
        method="POST", path=urls.TASKS, handler=tasks.create_tasks, policy=Action.TASK_SUBMIT, status=201,
        body=api.SubmitTask, answer=api.Submitted, key="replays", summary="Submit tasks: all or none.",
    ),
    Route(
        method="GET", path=urls.TASK, handler=tasks.show_task, policy=Action.TASK_LIST, answer=api.TaskView,
        summary="One task.",
    ),
    Route(
        method="GET", path=urls.TASK_EXPLAIN, handler=tasks.explain_task, policy=Action.TASK_LIST,
        answer=placing.ExplainView, summary="Why it stands where it stands, node by node.",
    ),
    Route(
        method="GET", path=urls.TASK_HISTORY, handler=tasks.list_history, policy=Action.TASK_LIST, query=queries.Paging,
        answer=api.Page[api.EventView], summary="Everything that happened to it, oldest first.",
    ),
    Route(
        method="GET", path=urls.TASK_ATTEMPTS, handler=tasks.list_attempts, policy=Action.TASK_LIST,
        query=queries.Paging, answer=api.Page[api.AttemptView], summary="Its runs, oldest first.",
    ),
    Route(
        method="GET", path=urls.TASK_OUTPUT, handler=tasks.read_output, policy=Action.TASK_LOGS, media=(BYTES,),
        query=queries.OutputQuery, answer=bytes, long=True,
        summary="Bytes of stdout or stderr; `X-Offset` and `X-Dropped` say where they lie.",
    ),
    Route(
        method="GET", path=urls.TASK_WAIT, handler=tasks.wait_task, policy=Action.TASK_LIST, query=queries.WaitQuery,
        answer=api.TaskView, long=True, summary="The task when it has ended, or as it stands after `timeout` seconds.",
    ),
    Route(
        method="POST", path=urls.TASK_KILL, handler=tasks.kill_task, policy=Action.TASK_CONTROL, body=api.Kill,
        answer=api.TaskView, summary="End it.",
    ),
    Route(
        method="POST", path=urls.TASK_PAUSE, handler=tasks.pause_task, policy=Action.TASK_CONTROL,
        answer=api.TaskView, summary="Freeze it.",
    ),
    Route(
        method="POST", path=urls.TASK_RESUME, handler=tasks.resume_task, policy=Action.TASK_CONTROL,
        answer=api.TaskView, summary="Let it go on.",
    ),
    Route(
        method="POST", path=urls.TASK_REQUEUE, handler=tasks.requeue_task, policy=Action.TASK_CONTROL,
        answer=api.TaskView, summary="End its present attempt and begin another.",
    ),
    Route(
        method="POST", path=urls.TASK_APPROVE, handler=tasks.approve_task, policy=Action.TASK_APPROVE,
        answer=api.TaskView, summary="Let it into the queue.",
    ),
    Route(
        method="POST", path=urls.TASK_REJECT, handler=tasks.reject_task, policy=Action.TASK_APPROVE, body=api.Remark,
        answer=api.TaskView, summary="Refuse it for good.",
    ),
    Route(
        method="POST", path=urls.TASK_LOSE, handler=tasks.declare_task_lost, policy=Action.TASK_LOSE, body=api.Remark,
        answer=api.TaskView, summary="Give it up: its node will not come back.",
    ),
    Route(
        method="GET", path=urls.BATCH, handler=batches.show_batch, policy=Action.TASK_LIST, answer=many.BatchView,
        summary="How many tasks of one submission stand where.",
    ),
    Route(
        method="POST", path=urls.BATCH_KILL, handler=batches.kill_batch, policy=Action.TASK_CONTROL, body=api.Kill,
        answer=many.BatchView, summary="End all tasks of one submission.",
    ),
    Route(
        method="POST", path=urls.BATCH_PAUSE, handler=batches.pause_batch, policy=Action.TASK_CONTROL,
        answer=many.BatchView, summary="Freeze all tasks of one submission.",
    ),
    Route(
        method="POST", path=urls.BATCH_RESUME, handler=batches.resume_batch, policy=Action.TASK_CONTROL,
        answer=many.BatchView, summary="Let all tasks of one submission go on.",
    ),
)  # fmt: skip

NODES = (
    Route(
        method="GET", path=urls.NODES, handler=nodes.list_nodes, policy=Action.NODE_LIST, query=queries.Paging,
        answer=api.Page[api.NodeView], summary="Every node that is not revoked.",
    ),
    Route(
        method="GET", path=urls.NODE, handler=nodes.show_node, policy=Action.NODE_LIST, answer=api.NodeView,
        summary="One node.",
    ),
    Route(
        method="GET", path=urls.NODE_HEALTH, handler=nodes.list_samples, policy=Action.NODE_LIST, query=queries.Paging,
        answer=api.Page[api.SampleView], summary="Its heartbeats of the last minutes.",
    ),
    Route(
        method="PATCH", path=urls.NODE_LABELS, handler=nodes.label_node, policy=Action.NODE_DRAIN,
        body=placing.LabelNode, answer=api.NodeView, summary="Give it labels, or take them away.",
    ),
    Route(
        method="POST", path=urls.NODE_DRAIN, handler=nodes.drain_node, policy=Action.NODE_DRAIN, body=api.Remark,
        answer=api.NodeView, summary="Give it no new work; what runs goes on.",
    ),
    Route(
        method="POST", path=urls.NODE_UNDRAIN, handler=nodes.undrain_node, policy=Action.NODE_DRAIN,
        answer=api.NodeView, summary="Let it work again.",
    ),
    Route(
        method="POST", path=urls.NODE_CORDON, handler=nodes.cordon_card, policy=Action.NODE_DRAIN, body=use.CordonCard,
        answer=api.NodeView, summary="Give one of its cards no new work; what runs there goes on.",
    ),
    Route(
        method="POST", path=urls.NODE_UNCORDON, handler=nodes.uncordon_card, policy=Action.NODE_DRAIN,
        body=use.UncordonCard, answer=api.NodeView, summary="Let the card work again.",
    ),
    Route(
        method="POST", path=urls.NODE_REVOKE, handler=nodes.revoke_node, policy=Action.NODE_REMOVE, body=api.Remark,
        answer=api.NodeView, summary="Cut it off at once and for good.",
    ),
    Route(
        method="POST", path=urls.NODE_TOKENS, handler=nodes.create_node_token, policy=Action.NODE_JOIN_TOKEN,
        status=201, body=api.NewNodeToken, answer=api.NodeToken, key="once",
        summary="A one-use token and the command for a new machine.",
    ),
)  # fmt: skip

CLUSTER = (
    Route(
        method="GET", path=urls.STATUS, handler=cluster.show_status, policy=Action.TASK_LIST, answer=api.StatusView,
        summary="The cluster in a few numbers.",
    ),
    Route(
        method="GET", path=urls.GPUS, handler=nodes.list_cards, policy=Action.NODE_LIST, query=queries.Paging,
        answer=api.Page[use.CardView], summary="Every card: how it does, who has it, what speaks against it.",
    ),
    Route(
        method="GET", path=urls.USE, handler=nodes.show_use, policy=Action.TASK_LIST, query=queries.UseQuery,
        answer=use.UseView, summary="Nodes and tasks: what is reserved, and what is in use.",
    ),
    Route(
        method="GET", path=urls.EVENTS, handler=events.list_events, policy=Action.EVENTS, query=queries.EventQuery,
        answer=api.Page[api.EventView], media=(JSON, NDJSON, SSE), long=True,
        summary="The history for operators; with `follow=1` changes as they come, for everybody.",
    ),
    Route(
        method="GET", path=urls.PLUGINS, handler=cluster.list_plugins, policy=Action.ABOUT, query=queries.Paging,
        answer=api.Page[api.PluginView], summary="What is installed on the host.",
    ),
)  # fmt: skip

ROUTES: tuple[Route, ...] = OPEN + ACCOUNTS + TASKS + NODES + CLUSTER + ENVIRONMENTS

"""Everybody who may knock at the host, each with a credential of their own, and the things of one owner that they ask for."""

import secrets
from dataclasses import dataclass, field
from datetime import timedelta

from kohakuriver.domain.access import Actor, Role
from kohakuriver.host import accounts, credentials, enrol, tokens, users
from kohakuriver.host.callers import ALL, LOGIN, READ
from kohakuriver.host.submit import submit_tasks
from kohakuriver.testing.hosts import add_account, token_of
from kohakuriver.testing.runners import add_node
from kohakuriver.wire import api, link, people

#: the columns of authorization.txt
WHO = (
    "anonymous", "wrong", "revoked", "expired", "disabled", "viewer", "foreign", "owner", "reading", "operator",
    "admin", "node",
)  # fmt: skip
#: who may see what the owner's task does
SEES = {"owner", "reading", "operator", "admin"}
ROLES = {
    "viewer": Role.VIEWER,
    "foreign": Role.USER,
    "owner": Role.USER,
    "operator": Role.OPERATOR,
    "admin": Role.ADMIN,
}


@dataclass
class Town:
    """A host with people, nodes, and one task of `owner` that ran to its end."""

    host: object
    actors: dict[str, Actor] = field(default_factory=dict)
    dead: dict[str, str] = field(default_factory=dict)
    credential: str = ""
    #: never to be seen by anybody
    secrets: dict[str, str] = field(default_factory=dict)
    #: for those in SEES alone
    details: dict[str, str] = field(default_factory=dict)
    task: str = ""

    async def token(self, who):
        """A credential of theirs that nothing has happened to yet; None for who has none."""
        if who in ("anonymous", *self.dead):
            return self.dead.get(who)
        if who == "node":
            return self.credential
        if who == "reading":
            return await token_of(self.host, self.actors["owner"], word=READ)
        return await token_of(self.host, self.actors[who])

    async def parts(self):
        """What stands in the paths: the owner's task, a new token and a new session of theirs, a new node."""
        token, row = tokens.new_token(self.host, self.actors["owner"].id, "more", ALL, None)
        cookie, session = tokens.new_session(self.host, self.actors["owner"].id, "a browser")
        await self.host.store.writer.write([row, session])
        peer = await add_node(self.host, f"n{secrets.token_hex(6)}")
        peer.member.learn([link.WireCell(cpus=[0], devices=[link.WireDevice(id="0000:01:00.0", index=0)])], [])
        return {
            "task": self.task,
            "batch": self.task,
            "token": token.id,
            "session": tokens.session_id(cookie)[: tokens.SHOWN],
            "node": peer.member.name,
            "user": "owner",
            "stream": "stdout",
            "ticket": secrets.token_urlsafe(32),
            "environment": "my-env",
            "version": "1",
            "container": "my-env",
            "operation": "1",
            "digest": "sha256:" + "0" * 64,
        }


async def settle(host, *, node="home"):
    """Everybody moves in; the owner's task has not run yet."""
    town = Town(host)
    for name, role in ROLES.items():
        town.actors[name] = await add_account(host, name, role)
    root = town.actors["admin"]
    # an environment whose first version is not there yet
    host.environments.catalog.set_aside("my-env", 1)
    await _dead(town, root)
    made = await enrol.make_token(host, root, api.NewNodeToken(name="machine"))
    town.secrets["join token"] = made.token
    town.credential = (await enrol.join(host, api.Join(token=made.token, name="machine"), "127.0.0.1")).credential
    town.secrets["node credential"] = town.credential
    invited = await users.add_user(host, root, people.NewUser(name="invited"))
    town.secrets["set-up link"] = invited.secret
    town.secrets["token of the owner"] = await token_of(host, town.actors["owner"])
    for word in ("command", "script", "environment", "directory", "output", "reason"):
        town.details[word] = f"canary{secrets.token_hex(12)}"
    town.secrets["secret value"] = f"canary{secrets.token_hex(12)}"
    return town


async def run(town, peer):
    """The owner's task, from submit to its end."""
    host, words = town.host, town.details
    request = api.SubmitTask(
        command=[words["command"]],
        script=words["script"],
        env={"E": words["environment"]},
        secrets={"S": town.secrets["secret value"]},
        workdir=f"/{words['directory']}",
        name="visible",
    )
    (task,) = (await submit_tasks(host, town.actors["owner"], request)).tasks
    await host.scheduler.tick()
    attempt = host.board.get(int(task)).attempt
    for what in ("accepted", "started"):
        await peer.tell(what, attempt)
    data = words["output"].encode()
    sealed = link.Sealed(size=len(data), head=len(data), tail=0, data=data)
    ending = link.WireExit(code=3, reason=f"cannot go on: {words['reason']}")
    await peer.tell("exited", attempt, exit=ending, stdout=sealed, stderr=link.Sealed())
    town.task = task


async def _dead(town, root):
    """Credentials that do not count any more, or never did."""
    host, owner = town.host, town.actors["owner"]
    town.dead["wrong"] = str(credentials.make(credentials.USER))
    text = await token_of(host, owner)
    found = await accounts.identify(host, token=text, cookie=None, address="192.0.2.1")
    await tokens.revoke_token(host, owner, found.credential)
    town.dead["revoked"] = text
    ended, row = tokens.new_token(host, owner.id, "old", LOGIN, host.clock.now() - timedelta(seconds=1))
    await host.store.writer.write([row])
    town.dead["expired"] = str(ended)
    gone = await add_account(host, "disabled", Role.ADMIN)
    town.dead["disabled"] = await token_of(host, gone)
    await users.change_user(host, root, "disabled", people.ChangeUser(disabled=True))

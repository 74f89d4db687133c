"""Steps that tests of accounts share."""

import pytest

from kohakuriver.domain.access import Role
from kohakuriver.errors import NotSignedIn
from kohakuriver.host import accounts, sign_in, users
from kohakuriver.host.sign_in import From
from kohakuriver.testing.hosts import add_account
from kohakuriver.wire import people

HERE = From(address="127.0.0.1", client="a test")
PASSWORD = "correct horse battery"


async def who(host, token=None, cookie=None):
    return await accounts.identify(host, token=token, cookie=cookie, address="192.0.2.1")


async def refused(host, token=None, cookie=None):
    with pytest.raises(NotSignedIn):
        await who(host, token=token, cookie=cookie)


async def admin(host, name="root"):
    return await add_account(host, name, Role.ADMIN)


async def signed_up(host, by, name, role="user"):
    link = await users.add_user(host, by, people.NewUser(name=name, role=role))
    entered = await sign_in.setup(host, people.Setup(secret=link.secret, password=PASSWORD), HERE)
    return link, entered

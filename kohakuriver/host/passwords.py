"""Which passwords are taken. Knows no hash: the auth provider keeps them."""

from kohakuriver.errors import Invalid

LEAST = 8
MOST = 256

#: common ones of at least eight characters; shorter ones are refused anyway
_WORDS = """
    password password1 password12 password123 password1234 passw0rd p@ssw0rd p@ssword 12345678 123456789
    1234567890 0123456789 87654321 987654321 9876543210 11111111 00000000 88888888 99999999 12341234 123123123
    1q2w3e4r 1q2w3e4r5t 1qaz2wsx 1qazxsw2 qwertyui qwertyuiop qwerty12 qwerty123 qwerty1234 qwer1234 asdfghjk
    asdfghjkl zxcvbnm1 zxcvbnm123 abcd1234 abcdefgh abc12345 a1b2c3d4 aa123456 iloveyou iloveyou1 sunshine
    princess football baseball superman batman123 starwars trustno1 letmein1 letmein123 welcome1 welcome123
    welcome2 changeme changeme1 changeme123 administrator admin123 admin1234 admin12345 adminadmin rootroot
    root1234 toor1234 test1234 testtest testing1 guest123 guestguest default1 computer internet whatever
    michelle jennifer victoria samantha corvette mercedes maverick midnight marlboro liverpool chelsea1
    arsenal1 dolphins redskins steelers garfield einstein pokemon1 pokemon123 monkey123 dragon123 master123
    shadow123 michael1 charlie1 jordan23 secret123 secret12 mypassword newpassword kohakuriver kohakuriver1
    kohakuriver123 cluster1 cluster123 gpucluster
"""
COMMON = frozenset(_WORDS.split())


def check_password(password: str, name: str, *, field: str = "password") -> None:
    """Raises Invalid for a password that is too short, too long, common, or the account's own name."""
    if not LEAST <= len(password) <= MOST:
        raise Invalid(f"a password has {LEAST} to {MOST} characters", field=field, limit=f"{LEAST} to {MOST}")
    lowered = password.lower()
    if lowered in COMMON or len(set(lowered)) < 3:
        raise Invalid("this password is among the first that anybody tries; choose another", field=field)
    if lowered in {name, name + name, name[::-1]}:
        raise Invalid("a password must not be the name of the account", field=field)

"""Whom a client trusts: a pinned certificate stands for itself, and no authority is read for it."""

import ssl

from kohakuriver.client import tls


def test_a_pinned_host_needs_no_authorities(monkeypatch):
    loaded = []
    monkeypatch.setattr(ssl.SSLContext, "load_default_certs", lambda *_: loaded.append(1))
    context = tls.make_context(pinned=True, ca_file=None)
    assert not loaded
    assert (context.verify_mode, context.check_hostname) == (ssl.CERT_NONE, False)
    assert context.minimum_version == ssl.TLSVersion.TLSv1_2


def test_without_a_pin_an_authority_must_know_the_host(monkeypatch):
    loaded = []
    monkeypatch.setattr(ssl.SSLContext, "load_default_certs", lambda *_: loaded.append(1))
    context = tls.make_context(pinned=False, ca_file=None)
    assert loaded
    assert (context.verify_mode, context.check_hostname) == (ssl.CERT_REQUIRED, True)

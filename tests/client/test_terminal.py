"""A terminal of this side joined with one over there: a real pty, a real socket, TLS too."""

import fcntl
import json
import os
import pty
import signal
import socket
import ssl
import struct
import termios
import threading

import pytest

from kohakuriver.client.http import Client
from kohakuriver.client.place import Place
from kohakuriver.client.terminal import END_OF_INPUT, relay
from kohakuriver.errors import Conflict, Malformed, NotAllowed, Unreachable
from kohakuriver.wire.frames import HEAD, Kind, frame, frames, window_of

from .scripted import make_certificate

LIMIT = 30
SWITCHED = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: kohakuriver-stream\r\n\r\n"


class Far:
    """The other side: takes one connection, answers the upgrade, and hands itself to what a test does then."""

    def __init__(self, does, *, answer=SWITCHED, tls=None):
        self._does, self._answer = does, answer
        self._tls = tls
        self._server = socket.create_server(("127.0.0.1", 0))
        self._server.settimeout(LIMIT)
        self.url = f"{'https' if tls else 'http'}://127.0.0.1:{self._server.getsockname()[1]}"
        self.head = b""
        self.failed = None
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self):
        try:
            with self._server, self._server.accept()[0] as plain:
                plain.settimeout(LIMIT)
                self.socket = plain
                if self._tls is not None:
                    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
                    context.load_cert_chain(self._tls)
                    self.socket = context.wrap_socket(plain, server_side=True)
                with self.socket:
                    while not self.head.endswith(b"\r\n\r\n"):
                        self.head += self.socket.recv(1)
                    self.socket.sendall(self._answer)
                    self._does(self)
        except Exception as error:  # raised by `join` in the test's own thread
            self.failed = error

    def frame(self):
        """The next frame, windows left out."""
        while True:
            number, length = HEAD.unpack(self._exactly(HEAD.size))
            payload = self._exactly(length)
            if number != Kind.WINDOW:
                return Kind(number), payload
            self.window = window_of(payload)

    def _exactly(self, count):
        data = b""
        while len(data) < count:
            piece = self.socket.recv(count - len(data))
            if not piece:
                raise EOFError(data)
            data += piece
        return data

    def typed(self, text):
        """Waits for these bytes."""
        found = b""
        while not found.endswith(text):
            kind, payload = self.frame()
            assert kind is Kind.DATA
            found += payload
        return found

    def ends(self, code):
        self.socket.sendall(frame(Kind.RESULT, json.dumps({"code": code}).encode()))

    def join(self):
        self._thread.join(LIMIT)
        assert not self._thread.is_alive()
        if self.failed is not None:
            raise self.failed


@pytest.fixture
def screen():
    """Descriptors of (the person's end, the command's end) of a terminal."""
    person, command = pty.openpty()
    yield person, command
    os.close(person)
    os.close(command)


def joined(far, stdin, stdout, place=None):
    client = Client(place or Place(url=far.url, source="test", token="kru_test"))
    try:
        with client.upgrade("/shell", "kohakuriver-stream") as (connection, early):
            code = relay(connection, early, stdin=stdin, stdout=stdout)
    finally:
        client.close()
    far.join()
    return code


def seen(person, text):
    found = b""
    while text not in found:
        found += os.read(person, 65536)
    return found


def answer(person, prompt, keys):
    """A person who types when the prompt is there."""
    seen(person, prompt)
    os.write(person, keys)


def test_keys_go_there_and_what_is_printed_comes_here(screen):
    person, command = screen

    def does(far):
        far.socket.sendall(frame(Kind.DATA, b"\x1b[1mprompt$ "))
        far.typed(b"ls\r\x03")  # Ctrl-C is a key like any other
        far.socket.sendall(frame(Kind.DATA, b"bye"))
        far.ends(7)

    far = Far(does)
    typing = threading.Thread(target=answer, args=(person, b"prompt$ ", b"ls\r\x03"))
    before = termios.tcgetattr(command)
    typing.start()
    assert joined(far, command, command) == 7
    typing.join(LIMIT)
    assert b"bye" in seen(person, b"bye")
    assert termios.tcgetattr(command) == before
    assert b"Authorization: Bearer kru_test\r\n" in far.head


def test_the_size_of_the_window_is_told_at_first_and_when_it_changes(screen):
    person, command = screen
    fcntl.ioctl(command, termios.TIOCSWINSZ, struct.pack("HHHH", 30, 100, 0, 0))
    told = []

    def does(far):
        far.socket.sendall(frame(Kind.DATA, b"$ "))
        far.typed(b"a")
        told.append(far.window)
        fcntl.ioctl(command, termios.TIOCSWINSZ, struct.pack("HHHH", 31, 101, 0, 0))
        os.kill(os.getpid(), signal.SIGWINCH)
        number, length = HEAD.unpack(far._exactly(HEAD.size))
        assert number == Kind.WINDOW
        told.append(window_of(far._exactly(length)))
        far.ends(0)

    far = Far(does)
    typing = threading.Thread(target=answer, args=(person, b"$ ", b"a"))
    typing.start()
    assert joined(far, command, command) == 0
    typing.join(LIMIT)
    assert told == [(100, 30), (101, 31)]


def test_bytes_that_came_with_the_answer_are_not_lost(tmp_path):
    early = frame(Kind.DATA, b"early ") + frame(Kind.RESULT, b'{"code": 0}')
    far = Far(lambda far: None, answer=SWITCHED + early)
    with (tmp_path / "out").open("w+b") as out, open(os.devnull, "rb") as nothing:
        assert joined(far, nothing.fileno(), out.fileno()) == 0
        out.seek(0)
        assert out.read() == b"early "


@pytest.mark.parametrize("secure", [False, True])
def test_much_goes_both_ways_at_once(tmp_path, secure):
    """5 MB here and 5 MB there, while nobody reads before all was sent there."""
    data = bytes(range(256)) * 20_000
    received = []

    def does(far):
        sending = threading.Thread(target=lambda: [far.socket.sendall(part) for part in frames(Kind.DATA, data)])
        if secure:  # one thread a TLS connection: the test's own side keeps that rule too
            sending.run()
        else:
            sending.start()
        while (found := far.frame())[0] is Kind.DATA:
            received.append(found[1])
        if not secure:
            sending.join(LIMIT)
        far.ends(0)

    place = None
    certificate, pin = make_certificate(tmp_path)
    far = Far(does, tls=certificate if secure else None)
    if secure:
        place = Place(url=far.url, source="test", token="kru_test", fingerprint=pin)
    (tmp_path / "in").write_bytes(data)
    with (tmp_path / "in").open("rb") as given, (tmp_path / "out").open("w+b") as out:
        assert joined(far, given.fileno(), out.fileno(), place) == 0
        out.seek(0)
        assert out.read() == data
    assert b"".join(received).rstrip(END_OF_INPUT) == data.rstrip(END_OF_INPUT)


@pytest.mark.parametrize(("given", "ends"), [(b"", 1), (b"ls\n", 1), (b"ls", 2)])
def test_without_a_terminal_the_end_of_the_input_is_typed(tmp_path, given, ends):
    found = []

    def does(far):
        while (one := far.frame())[0] is Kind.DATA:
            found.append(one[1])
        far.ends(0)

    far = Far(does)
    (tmp_path / "in").write_bytes(given)
    with (tmp_path / "in").open("rb") as file, open(os.devnull, "wb") as out:
        assert joined(far, file.fileno(), out.fileno()) == 0
    assert b"".join(found) == given + END_OF_INPUT * ends


def test_a_break_is_told_and_the_terminal_is_as_it_was(screen):
    _, command = screen
    before = termios.tcgetattr(command)
    with pytest.raises(Unreachable, match=r"closed|broke"):
        joined(Far(lambda far: None), command, command)
    assert termios.tcgetattr(command) == before


def test_why_it_ended_is_raised_as_what_it_is(screen):
    _, command = screen
    error = frame(Kind.ERROR, b'{"code": "conflict", "message": "my-env is stopped"}')
    with pytest.raises(Conflict, match="my-env is stopped"):
        joined(Far(lambda far: far.socket.sendall(error)), command, command)


def test_nonsense_is_told(screen):
    _, command = screen
    with pytest.raises(Malformed):
        joined(Far(lambda far: far.socket.sendall(b"\xff" * 10)), command, command)


def test_a_refusal_before_it_begins_is_an_error_of_the_api(screen):
    _, command = screen
    body = b'{"code": "not_allowed", "detail": "operators only"}'
    answer = b"HTTP/1.1 403 Forbidden\r\nContent-Type: application/problem+json\r\nContent-Length: %d\r\n\r\n" % len(
        body
    )
    with pytest.raises(NotAllowed, match="operators only"):
        joined(Far(lambda far: None, answer=answer + body), command, command)


def test_a_machine_that_vanished_without_a_word_is_noticed():
    far = Far(lambda far: far.socket.recv(1))
    client = Client(Place(url=far.url, source="test", token="kru_test"))
    with client.upgrade("/shell", "kohakuriver-stream") as (connection, _):
        assert connection.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
        assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 20
    client.close()
    far.join()

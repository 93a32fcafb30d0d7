"""Real clients with dummy credentials read a real mailbox, byte for byte."""

import poplib

import pytest

from harness.clients import (
    CURL_LOGINS,
    RawClient,
    curl,
    fetch_with_poplib,
    plain,
    with_poplib,
    xoauth2,
)

TRANSPORTS = {
    "pop3": {},
    "stls": {"mail.pop3.starttls.enable": "true", "mail.pop3.starttls.required": "true"},
    "pop3s": {"mail.transport.protocol": "pop3s"},
}

# The lines that a client sends, and the number of lines that come back before the decisive one.
RAW_LOGINS = {
    "none": [],
    "USER and PASS": [b"USER anyone", b"PASS any thing"],
    "AUTH PLAIN with initial response": [b"AUTH PLAIN " + plain()],
    "AUTH PLAIN in two lines": [b"AUTH PLAIN", plain(authzid="anyone")],
    "AUTH LOGIN": [b"AUTH LOGIN", b"YW55b25l", b"YW55dGhpbmc="],
    "AUTH LOGIN with initial response": [b"AUTH LOGIN YW55b25l", b"YW55dGhpbmc="],
    "AUTH XOAUTH2 with initial response": [b"AUTH XOAUTH2 " + xoauth2()],
    "AUTH XOAUTH2 in two lines": [b"auth xoauth2", xoauth2()],
    "APOP": [b"APOP anyone c4c9334bac560ecc979e58001b3e22fb"],
}


@pytest.fixture(scope="session")
def full_mailbox(dovecot, messages):
    return dovecot.mailbox(messages)


@pytest.fixture(params=TRANSPORTS)
def port(request, tproxy, dovecot, full_mailbox):
    """The proxy's port for the full mailbox, over each kind of backend connection."""
    return tproxy.add(
        f"dest-{request.param}",
        "localhost" if request.param == "pop3s" else "127.0.0.1",
        dovecot.pop3s if request.param == "pop3s" else dovecot.pop3,
        mail__user=full_mailbox.user,
        mail__password=full_mailbox.password,
        **TRANSPORTS[request.param],
    )


def log_in(client: RawClient, commands: list[bytes]) -> bytes:
    """Sends the login line by line and returns the last answer."""
    answer = b"+OK"
    for number, command in enumerate(commands):
        answer = client.command(command)
        if number < len(commands) - 1:
            assert answer.startswith((b"+OK", b"+ ")), (command, answer)
    return answer


@pytest.mark.parametrize("login", RAW_LOGINS)
def test_raw_client_reads_the_mailbox(port, messages, login):
    with RawClient(port) as client:
        assert log_in(client, RAW_LOGINS[login]).startswith(b"+OK")
        status = client.command(b"STAT").split()
        assert status == [b"+OK", b"%d" % len(messages), b"%d" % sum(map(len, messages))]
        assert len(client.multi(b"LIST")) == len(messages)
        assert len(client.multi(b"UIDL")) == len(messages)
        for number, message in enumerate(messages, 1):
            assert client.retr(number) == message, f"message {number}"
        assert client.command(b"QUIT").startswith(b"+OK")
        assert client.rest() == b""


def test_poplib_reads_the_mailbox(port, messages):
    client = with_poplib(port)
    assert client.stat() == (len(messages), sum(map(len, messages)))
    for number, message in enumerate(messages, 1):
        assert fetch_with_poplib(client, number) == message, f"message {number}"
    assert client.quit().startswith(b"+OK")


@pytest.mark.parametrize("login", CURL_LOGINS)
def test_curl_reads_the_mailbox(port, messages, login, tmp_path):
    run = curl(port, f"[1-{len(messages)}]", "--output", f"{tmp_path}/#1", *CURL_LOGINS[login])
    assert run.returncode == 0, run.stderr.decode()
    for number, message in enumerate(messages, 1):
        assert (tmp_path / str(number)).read_bytes() == message, f"message {number}"


@pytest.mark.parametrize("login", ["no credentials", "whatever it likes"])
def test_curl_lists_the_mailbox(port, messages, login):
    run = curl(port, "", *CURL_LOGINS[login])
    assert run.returncode == 0, run.stderr.decode()
    listing = [b"%d %d" % (n, len(message)) for n, message in enumerate(messages, 1)]
    assert run.stdout.split(b"\r\n")[:-1] == listing


def test_curl_logs_in_itself(tproxy, dovecot, full_mailbox, messages, tmp_path):
    """curl uses USER and PASS if no SASL mechanism is offered."""
    port = tproxy.add(
        "own-login", "127.0.0.1", dovecot.pop3, Authentication="NoAuthentication", mail__user=None
    )
    login = ["--user", f"{full_mailbox.user}:{full_mailbox.password}", "--verbose"]
    run = curl(port, f"[1-{len(messages)}]", "--output", f"{tmp_path}/#1", *login)
    assert run.returncode == 0, run.stderr.decode()
    assert b"> USER " in run.stderr
    for number, message in enumerate(messages, 1):
        assert (tmp_path / str(number)).read_bytes() == message, f"message {number}"


@pytest.mark.parametrize("login", ["AUTH PLAIN, two lines", "AUTH LOGIN, one line"])
def test_curl_sees_the_backends_refusal(tproxy, backend, login):
    port = tproxy.add("mail", backend.host, backend.port, mail__password="wrong")
    run = curl(port, "1", "--verbose", *CURL_LOGINS[login])
    assert run.returncode == 67, run.stderr.decode()  # curl's code for "login denied"
    assert b"-ERR [AUTH]" in run.stderr


def test_apop_is_accepted_but_not_offered(tproxy, backend):
    """APOP is accepted but not offered, because a time stamp in the greeting makes many clients
    choose APOP with a password that they may not have."""
    port = tproxy.add("mail", backend.host, backend.port)
    client = poplib.POP3("127.0.0.1", port)
    assert b"<" not in client.getwelcome()
    with pytest.raises(poplib.error_proto, match="APOP not supported"):
        client.apop("anyone", "anything")
    client.close()
    run = curl(port, "1", "--user", "anyone:anything", "--login-options", "AUTH=+APOP")
    assert run.returncode == 67


def test_commands_of_the_documentation_in_lower_case(tproxy, dovecot):
    """list, retr 1 and quit work in lower case, as the documentation of the job writes them."""
    box = dovecot.mailbox([b"Subject: hello\r\n\r\n.dot\r\n"])
    port = tproxy.add(
        "mail", "127.0.0.1", dovecot.pop3, mail__user=box.user, mail__password=box.password
    )
    with RawClient(port) as client:
        assert client.greeting.startswith(b"+OK ")
        assert client.multi(b"list") == [b"1 24"]
        assert client.multi(b"retr 1") == [b"Subject: hello", b"", b"..dot"]
        assert client.command(b"quit").startswith(b"+OK")
        assert client.rest() == b""
    assert len(box.files()) == 1

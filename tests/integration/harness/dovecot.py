"""A real Dovecot with POP3, STLS and POP3S in a directory of its own. It may also accept the tokens
of an OAuth server, which it verifies itself."""

import contextlib
import grp
import itertools
import os
import poplib
import pwd
import re
import shutil
import socket
import subprocess
from pathlib import Path

from harness.certs import Certificates
from harness.oauth import SigningKey
from harness.util import NOBODY, free_port, is_root, until

CONFIG = """
protocols = pop3
base_dir = {base}/run
state_dir = {base}/state
log_path = {base}/dovecot.log
auth_verbose = yes
instance_name = {base.name}
default_login_user = {login_user}
default_internal_user = {internal_user}
default_internal_group = {internal_group}
default_client_limit = 2000
first_valid_uid = 1
first_valid_gid = 1
disable_plaintext_auth = no
auth_mechanisms = {mechanisms}
auth_failure_delay = 0
mail_max_userip_connections = 0
mail_location = maildir:~/Maildir
pop3_uidl_format = %g
ssl = yes
ssl_cert = <{certificate}
ssl_key = <{certificate}
login_trusted_networks =
{token_passdb}
passdb {{
  driver = static
  mechanisms = plain login apop
  args = password={secret}-%u
}}
userdb {{
  driver = static
  args = uid={uid} gid={gid} home={base}/mail/%u
}}
service pop3-login {{
  inet_listener pop3 {{
    address = {host}
    port = {pop3}
  }}
  inet_listener pop3s {{
    address = {host}
    port = {pop3s}
    ssl = yes
  }}
  chroot = {chroot}
  service_count = 0
  process_limit = 4
}}
service pop3 {{
  service_count = 200
}}
service anvil {{
  chroot = {chroot}
  unix_listener anvil-auth-penalty {{
    mode = 0
  }}
}}
"""

TOKEN_PASSDB = """
passdb {{
  driver = oauth2
  mechanisms = xoauth2 oauthbearer
  args = {base}/oauth2.conf
}}
"""

# The public key is the file keys/default/RS256/ID, where ID is the "kid" of the tokens.
OAUTH2_CONFIG = """
introspection_mode = local
local_validation_key_dict = fs:posix:prefix={base}/keys/
username_attribute = email
"""


# The beginning of all mailboxes' passwords.
PASSWORD_MARK = "S3cret-"


class Mailbox:
    """A user of the server, with a password that appears nowhere else."""

    def __init__(self, user: str, password: str, maildir: Path):
        self.user = user
        self.password = password
        self._maildir = maildir

    def files(self) -> list[bytes]:
        """Returns the messages that are in the mailbox now, read from the disk, in the order of
        delivery."""
        while True:
            found = [*self._maildir.glob("new/*"), *self._maildir.glob("cur/*")]
            with contextlib.suppress(FileNotFoundError):  # the server has just moved one to cur
                return [path.read_bytes() for path in sorted(found, key=lambda path: path.name)]


class Dovecot:
    host = "127.0.0.1"  # the address on which it listens

    def __init__(self, base: Path, certificates: Certificates, token_key: SigningKey | None = None):
        """A token signed with token_key opens the mailbox that its claim "email" names."""
        self.pop3 = 0
        self.pop3s = 0
        self._base = base
        self._certificates = certificates
        self._token_key = token_key
        self._process: subprocess.Popen | None = None
        self._numbers = itertools.count(1)
        self._secret = PASSWORD_MARK + os.urandom(6).hex()
        self._owner = NOBODY if is_root() else os.getuid()
        self._group = NOBODY if is_root() else os.getgid()

    def start(self) -> None:
        (self._base / "mail").mkdir()
        if self._token_key:
            self._trust(self._token_key)
        for attempt in range(5):
            self._configure()
            self._process = subprocess.Popen(
                [_find("dovecot"), "-F", "-c", str(self._base / "dovecot.conf")],
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
            )
            if self._answers():
                return
            self.stop()
        raise AssertionError(f"Dovecot does not start:\n{self.log()}")

    def stop(self) -> None:
        if self._process:
            self._process.terminate()
            try:
                self._process.wait(10)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process.stderr.close()
            self._process = None

    def log(self) -> str:
        path = self._base / "dovecot.log"
        return path.read_text(errors="replace") if path.exists() else "(no log)"

    def logins(self, user: str, count: int) -> list[tuple[str, bool]]:
        """Waits for `count` logins. Returns the mechanism of each, and whether it used TLS."""
        line = re.compile(rf"Login: user=<{user}>, method=(\S+),.* (TLS|secured),")

        def found():
            logins = line.findall(self.log())
            return logins if len(logins) >= count else None

        return [(mechanism, how == "TLS") for mechanism, how in until(found, f"logins of {user}")]

    def refusals(self, user: str) -> int:
        """Returns how often the user has been refused so far. A refusal of our own marks the end of
        the log."""
        mark = f"nobody{next(self._numbers)}"
        with contextlib.closing(poplib.POP3(self.host, self.pop3)) as client:
            client.user(mark)
            with contextlib.suppress(poplib.error_proto):
                client.pass_("wrong")
        until(lambda: f"({mark}," in self.log(), "our own refusal")
        return len(re.findall(rf" auth: Info: \w+\({user},", self.log()))

    def mailbox(self, messages: list[bytes] = ()) -> Mailbox:
        """Creates a user whose mailbox holds these messages (bytes with CRLF line ends)."""
        user = f"user{next(self._numbers)}"
        box = Mailbox(user, f"{self._secret}-{user}", self._base / "mail" / user / "Maildir")
        self._deliver(box, messages)
        return box

    def direct(self, box: Mailbox, tls: bool = False) -> poplib.POP3:
        """Logs in without a proxy, for comparison."""
        if tls:
            context = self._certificates.client_context()
            client = poplib.POP3_SSL("localhost", self.pop3s, context=context)
        else:
            client = poplib.POP3(self.host, self.pop3)
        client.user(box.user)
        client.pass_(box.password)
        return client

    def _deliver(self, box: Mailbox, messages) -> None:
        maildir = box._maildir
        for name in ("cur", "new", "tmp"):
            (maildir / name).mkdir(parents=True)
        for number, message in enumerate(messages):
            (maildir / "new" / f"{1700000000 + number}.M{number:03}.host").write_bytes(message)
        for path in [maildir.parent, *maildir.parent.rglob("*")]:
            os.chown(path, self._owner, self._group)

    def _trust(self, key: SigningKey) -> None:
        (self._base / "oauth2.conf").write_text(OAUTH2_CONFIG.format(base=self._base))
        path = self._base / f"keys/default/RS256/{key.id}"
        path.parent.mkdir(parents=True)
        path.write_text(key.public_pem())

    def _configure(self) -> None:
        self.pop3, self.pop3s = free_port(), free_port()
        me = pwd.getpwuid(os.getuid()).pw_name
        my_group = grp.getgrgid(os.getgid()).gr_name
        tokens = self._token_key is not None
        (self._base / "dovecot.conf").write_text(
            CONFIG.format(
                base=self._base,
                host=self.host,
                mechanisms="plain login apop" + (" xoauth2 oauthbearer" if tokens else ""),
                token_passdb=TOKEN_PASSDB.format(base=self._base) if tokens else "",
                secret=self._secret,
                certificate=self._certificates.good_rsa,
                login_user="dovenull" if is_root() else me,
                internal_user="dovecot" if is_root() else me,
                internal_group="dovecot" if is_root() else my_group,
                chroot="login" if is_root() else "",
                uid=self._owner,
                gid=self._group,
                pop3=self.pop3,
                pop3s=self.pop3s,
            )
        )

    def _answers(self) -> bool:
        def greeting():
            if self._process.poll() is not None:
                return b"gone"
            with contextlib.suppress(OSError):
                with socket.create_connection((self.host, self.pop3), 5) as sock:
                    sock.settimeout(5)
                    return sock.recv(100)

        return until(greeting, "Dovecot's greeting").startswith(b"+OK")


def _find(name: str) -> str:
    found = shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
    assert found, f"{name} is not installed (make deps)"
    return found

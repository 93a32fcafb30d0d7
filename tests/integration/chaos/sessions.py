"""Clients: those in the middle of a session, which only the end of its process may break, and new
ones."""

from chaos.facts import Target
from chaos.fleet import Place
from harness.backend import Backend, Pop3
from harness.clients import RawClient
from harness.replicas import Replica
from harness.tproxy import destination

PASSWORD = "Scripted-Pa55word"


class Mailboxes:
    """Mail servers, each with one mailbox, whose mail says its number."""

    def __init__(self, backends, tls):
        """The last one speaks TLS."""
        self.servers: list[Backend] = []
        for number, context in enumerate((None, None, None, tls)):
            self.servers.append(backends(Pop3(messages=(mail_of(number),), tls=context)))
        self.secure = len(self.servers) - 1

    def properties(self, name: str, box: int) -> dict[str, str]:
        protocol = "pop3s" if box == self.secure else "pop3"
        server = self.servers[box]
        return destination(name, server.host, server.port, mail__transport__protocol=protocol)


def mail_of(box: int) -> bytes:
    return f"Subject: box {box}\r\n\r\n".encode()


def box_at(address: str, port: int) -> int:
    """Holds a short session. Returns the number of the mailbox. Raises OSError, EOFError or
    AssertionError if there is none."""
    with RawClient(port, host=address) as client:
        mail = client.retr(1)
        assert client.command(b"QUIT").startswith(b"+OK")
    return int(mail.split()[2])


class Sessions:
    def __init__(self):
        self._open: dict[tuple[Target, Replica], RawClient] = {}

    def targets(self) -> set[Target]:
        return {target for target, _ in self._open}

    def open(self, target: Target, place: Place, port: int) -> None:
        """Begins a session, unless there is one."""
        key = target, place.replica
        if key not in self._open:
            client = self._open[key] = RawClient(port, host=place.address)
            assert client.command(b"STAT").startswith(b"+OK 1 ")

    def broken(self, living: list[Place]) -> list[str]:
        """Returns one line for each session with a living replica that has been broken."""
        found = []
        replicas = {place.replica: place for place in living}
        for (target, replica), client in self._open.items():
            if replica in replicas:
                try:
                    answer = client.command(b"NOOP")
                    if not answer.startswith(b"+OK"):
                        found.append(f"session of {target} at {replicas[replica]}: {answer}")
                except (OSError, EOFError) as error:
                    found.append(f"session of {target} at {replicas[replica]}: {error!r}")
        return found

    def leave(self, gone) -> None:
        """Lets the clients leave for whose target and replica gone() is true."""
        for key in [key for key in self._open if gone(*key)]:
            self._open.pop(key).sock.close()

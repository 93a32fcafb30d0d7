"""A crowd of hostile clients, as a program of its own:

    crowd.py PORT BEHAVIOUR COUNT

Each connection that the server closes is replaced. Prints "ready" when all have been made once. The
clients use 127.0.0.2 and the following addresses, so that they do not use up the ports of others.
"""

import resource
import selectors
import socket
import sys
import time

# The first bytes of each client.
BEHAVIOURS = {
    "half a request": b"GET /heal",
    "silence": b"",
    "answers left unread": b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n" * 50,
    "idle after a request": b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n",
    "an octet a second": b"G",
    "nonsense": b"nonsense\r\n\r\n",
}
NEW_A_SECOND = 2000


class Crowd:
    def __init__(self, port: int, behaviour: str, count: int):
        self.port, self.behaviour, self.count = port, behaviour, count
        self.selector = selectors.DefaultSelector()
        self.made = 0
        self.clients: set[socket.socket] = set()

    def add(self) -> None:
        client = socket.socket()
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.bind((f"127.0.0.{2 + self.made % 50}", 0))
        client.setblocking(False)
        client.connect_ex(("127.0.0.1", self.port))
        self.selector.register(client, selectors.EVENT_WRITE)
        self.clients.add(client)
        self.made += 1

    def drop(self, client: socket.socket) -> None:
        self.selector.unregister(client)
        self.clients.discard(client)
        client.close()

    def act(self, client: socket.socket, events: int) -> None:
        try:
            if events & selectors.EVENT_WRITE:
                client.send(BEHAVIOURS[self.behaviour])
                self.selector.modify(client, selectors.EVENT_READ)
            elif self.behaviour == "answers left unread":
                if not client.recv(65536, socket.MSG_PEEK):
                    self.drop(client)
                else:
                    self.selector.modify(client, 0)
            elif not client.recv(65536):
                self.drop(client)
        except BlockingIOError:
            pass
        except OSError:
            self.drop(client)

    def run(self) -> None:
        budget, last, dripped = float(self.count), time.monotonic(), time.monotonic()
        told = False
        while True:
            now = time.monotonic()
            budget = min(budget + (now - last) * NEW_A_SECOND, self.count)
            last = now
            while budget >= 1 and len(self.clients) < self.count:
                self.add()
                budget -= 1
            for key, events in self.selector.select(0.01):
                self.act(key.fileobj, events)
            if self.behaviour == "an octet a second" and now - dripped > 1:
                dripped = now
                for client in list(self.clients):
                    self.act(client, selectors.EVENT_WRITE)
            if self.made >= self.count and not told:
                told = True
                print("ready", flush=True)


if __name__ == "__main__":
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    Crowd(int(sys.argv[1]), sys.argv[2], int(sys.argv[3])).run()

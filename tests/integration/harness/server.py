"""Servers in the test process that can stop and start again."""

import contextlib
import socket
import socketserver
import ssl
import sys
import threading


class Server:
    """A server with a port for each context; a context is None for clear text. The ports stay
    reserved while it is stopped. The handler's self.server.owner is this object."""

    host = "127.0.0.1"  # the address on which it listens

    def __init__(
        self, handler: type[socketserver.BaseRequestHandler], *contexts: ssl.SSLContext | None
    ):
        self.failures: list[BaseException] = []
        self.handler = handler
        self._contexts = contexts
        self._reservations = [_reserve(self.host) for _ in contexts]
        self._listeners: list[_Listener] = []
        self.ports = [reservation.getsockname()[1] for reservation in self._reservations]

    def start(self) -> None:
        for port, tls in zip(self.ports, self._contexts, strict=True):
            self._listeners.append(_Listener(self, port, tls))

    def stop(self) -> None:
        """Refuses connections and closes the open ones."""
        while self._listeners:
            self._listeners.pop().stop()

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, kind, *rest) -> None:
        self.stop()
        for reservation in self._reservations:
            reservation.close()
        if kind is None and self.failures:
            raise self.failures[0]


def _reserve(host: str) -> socket.socket:
    reservation = socket.socket()
    reservation.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    reservation.bind((host, 0))
    return reservation


class _Listener(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 512

    def __init__(self, owner: Server, port: int, tls: ssl.SSLContext | None):
        super().__init__((owner.host, port), owner.handler)
        self.owner = owner
        self._open: set[socket.socket] = set()
        if tls:
            # The handshake takes place at the first read, in the connection's own thread.
            self.socket = tls.wrap_socket(
                self.socket, server_side=True, do_handshake_on_connect=False
            )
        threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True).start()

    def stop(self) -> None:
        self.shutdown()
        self.server_close()
        for sock in list(self._open):
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)

    def process_request(self, request, client_address) -> None:
        self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request) -> None:
        self._open.discard(request)
        super().shutdown_request(request)

    def handle_error(self, request, client_address) -> None:
        """Records the exception that is being handled."""
        failure = sys.exception()
        if not isinstance(failure, OSError):  # an OSError only means that the peer has closed
            self.owner.failures.append(failure)

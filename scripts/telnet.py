#!/usr/bin/env python3
"""Talks to a POP3 server through telnet the way a person does: on a terminal, one command at a time,
each typed when the answer to the one before is there. Shows what the terminal shows.

    telnet.py HOST PORT COMMAND...

Exit code 0 when every answer was positive and the server ended the session."""

import os
import pty
import re
import select
import shutil
import sys

PATIENCE = 30.0
# A positive answer is one line, or for these commands lines up to a lone dot.
MULTI_LINE = ("list", "retr", "uidl", "top", "capa")


class Terminal:
    def __init__(self, *command: str):
        self._seen = b""
        self._child, self._fd = pty.fork()
        if self._child == 0:
            os.execvp(command[0], command)

    def type(self, line: str) -> None:
        os.write(self._fd, line.encode() + b"\n")

    def expect(self, pattern: bytes) -> bytes:
        """Waits until the pattern has come; returns and forgets everything up to its end."""
        while not (found := re.search(pattern, self._seen)):
            if not self._read():
                raise EOFError
        seen, self._seen = self._seen[: found.end()], self._seen[found.end() :]
        return seen

    def finish(self) -> None:
        while self._read():
            pass
        os.waitpid(self._child, 0)

    def _read(self) -> bool:
        """Shows what comes; false at the end."""
        if not select.select([self._fd], [], [], PATIENCE)[0]:
            raise TimeoutError
        try:
            data = os.read(self._fd, 65536)
        except OSError:  # the terminal has no process any more
            return False
        self._seen += data
        sys.stdout.buffer.write(data.replace(b"\r", b""))
        sys.stdout.buffer.flush()
        return bool(data)


def main() -> int:
    if len(sys.argv) < 4:
        print(__doc__, file=sys.stderr)
        return 2
    host, port, *commands = sys.argv[1:]
    if not shutil.which("telnet"):
        print("telnet.py: telnet is not installed", file=sys.stderr)
        return 1
    terminal = Terminal("telnet", host, port)
    try:
        terminal.expect(rb"\n\+OK[^\n]*\n")
        for command in commands:
            terminal.type(command)
            status = terminal.expect(rb"(?<=\n)(\+OK|-ERR)[^\n]*\n")
            if b"\n-ERR" in status:
                return 1
            if command.split()[0].lower() in MULTI_LINE:
                terminal.expect(rb"(^|\n)\.\r*\n")
        terminal.finish()
    except (EOFError, TimeoutError) as failure:
        print(f"\ntelnet.py: {type(failure).__name__}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

#!/usr/bin/env python3
"""Mail clients that come all the time, a program for a pod.

    load.py HOST PORT RATE

Starts RATE sessions a second until its standard input ends. Each looks the name up, logs in with
the first command, fetches a message, stays for a while (nine of ten less than a second, the others
up to eight) and quits. At the end it prints JSON: "good" is the number of good sessions; "failures"
says of the others when they began and failed (seconds since the start), at which step and how;
"longest" is the longest time that a good session took to be greeted, "peak" the most that were open
at a time, "rate" how many really began in a second.
"""

import asyncio
import contextlib
import json
import random
import sys
import time

PATIENCE = 10.0  # for a lookup and a connection, or for an answer


class Failure(Exception):
    """The session failed at this step."""


class Crowd:
    def __init__(self, host: str, port: int):
        self.good = 0
        self.failures: list[dict] = []
        self.longest = 0.0
        self.peak = 0
        self._open = 0
        self._host, self._port = host, port
        self._began = time.monotonic()

    async def session(self) -> None:
        began = time.monotonic()
        self._open += 1
        self.peak = max(self.peak, self._open)
        step = "connect"
        writer = None
        try:
            reader, writer = await patient(asyncio.open_connection(self._host, self._port))
            step = "greeting"
            await line(reader)
            self.longest = max(self.longest, time.monotonic() - began)
            for step in ("LIST", "RETR 1"):
                await command(reader, writer, step, many=True)
            step = "stay"
            await self._stay(reader)
            step = "QUIT"
            await command(reader, writer, step)
            self.good += 1
        except (OSError, EOFError, Failure, asyncio.TimeoutError) as failure:
            what = f"{type(failure).__name__}: {failure}"
            times = {"began": began - self._began, "failed": time.monotonic() - self._began}
            rounded = {name: round(value, 3) for name, value in times.items()}
            self.failures.append({**rounded, "step": step, "what": what})
        finally:
            self._open -= 1
            if writer:
                writer.close()

    async def _stay(self, reader) -> None:
        """Nothing may come, least of all the end."""
        pause = random.uniform(0, 1) if random.random() < 0.9 else random.uniform(1, 8)
        with contextlib.suppress(asyncio.TimeoutError):
            data = await asyncio.wait_for(reader.read(1), pause)
            raise Failure(f"{data!r} while nothing was asked")

    def report(self, seconds: float) -> dict:
        """Returns what is printed, for sessions that began within these seconds."""
        return {
            "good": self.good,
            "failures": self.failures,
            "longest": round(self.longest, 3),
            "peak": self.peak,
            "rate": round((self.good + len(self.failures)) / seconds, 1),
        }


async def patient(waited_for):
    return await asyncio.wait_for(waited_for, PATIENCE)


async def line(reader) -> bytes:
    found = await patient(reader.readline())
    if not found.endswith(b"\r\n"):
        raise EOFError(f"after {found!r}")
    if not found.startswith(b"+OK"):
        raise Failure(found.decode(errors="replace").strip())
    return found


async def command(reader, writer, words: str, many: bool = False) -> None:
    writer.write(words.encode() + b"\r\n")
    await line(reader)
    while many:
        found = await patient(reader.readline())
        if not found:
            raise EOFError("within an answer")
        many = found != b".\r\n"


async def come(host: str, port: int, rate: float) -> dict:
    crowd = Crowd(host, port)
    sessions = set()
    end = asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    began = due = time.monotonic()
    while not end.done():
        session = asyncio.create_task(crowd.session())
        sessions.add(session)
        session.add_done_callback(sessions.discard)
        due += 1 / rate
        await asyncio.sleep(max(0.0, due - time.monotonic()))
    seconds = time.monotonic() - began
    await asyncio.gather(*sessions)
    return crowd.report(seconds)


if __name__ == "__main__":
    print(json.dumps(asyncio.run(come(sys.argv[1], int(sys.argv[2]), float(sys.argv[3])))))

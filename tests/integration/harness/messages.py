"""Twenty messages, each difficult in another way, in the form they have before dot-stuffing."""

import random


def _mail(subject: str, body: bytes) -> bytes:
    head = f"From: a@example.test\r\nTo: b@example.test\r\nSubject: {subject}\r\n\r\n"
    return head.encode() + body


def varied_messages(seed: int) -> list[bytes]:
    rng = random.Random(seed)

    def text(size: int, width: int = 70, alphabet: bytes = b"abcdefghij klmnop.") -> bytes:
        lines, left = [], size
        while left > 0:
            length = min(left, rng.randint(0, width))
            lines.append(bytes(rng.choices(alphabet, k=length)))
            left -= length + 2
        return b"\r\n".join(lines) + b"\r\n"

    eight_bit = bytes(set(range(1, 256)) - set(b"\r\n"))
    block = text(64 * 1024)
    return [
        _mail("ordinary", b"Hello.\r\n"),
        _mail("five megabytes", block * 80),
        _mail("dots", b".\r\n..\r\n...\r\n.leading\r\nmiddle . dot\r\n..two\r\nend.\r\n"),
        _mail("lone dot at the end", b"text\r\n.\r\n"),
        _mail("only dots", b".\r\n" * 3000),
        _mail("eight bit", text(4000, alphabet=eight_bit)),
        _mail("utf-8", "Grüße aus Köln, 東京, Ελλάδα\r\n".encode() * 50),
        _mail("long lines", b"x" * 20000 + b"\r\n" + b"." * 20000 + b"\r\n"),
        _mail("empty body", b""),
        b"\r\n",
        _mail("blank lines", b"\r\n" * 500),
        _mail("looks like an end", b"\r\n.\r\n\r\n.\r\n+OK\r\n-ERR\r\nQUIT\r\n"),
        _mail("looks like a login", b"+OK Logged in.\r\nUSER a\r\nPASS b\r\n"),
        _mail("blanks at line ends", b"a \r\nb\t\r\n \r\n\t\r\n. \r\n.\t\r\n"),
        _mail("one kilobyte", text(1024)),
        _mail("sixteen kilobytes", text(16 * 1024)),
        _mail("around a buffer", b"y" * 65533 + b"\r\n.\r\n" + b"z" * 4094 + b"\r\n.\r\n"),
        _mail("short lines", b"a\r\n" * 20000),
        _mail("half a megabyte", block * 8),
        b"Subject: "
        + b"s" * 900
        + b"\r\n"
        + b"X-Fold:\r\n folded\r\n\r\nlast line is a dot\r\n.\r\n",
    ]


def on_the_wire(message: bytes) -> bytes:
    """Returns the message dot-stuffed and with its end marker, as an answer to RETR has it."""
    assert message.endswith(b"\r\n")
    stuffed = b"".join(
        b"." + line if line.startswith(b".") else line for line in message.splitlines(True)
    )
    return stuffed + b".\r\n"

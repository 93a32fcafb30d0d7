"""The registry of everything that must stay secret in a test. Outputs are searched for it."""

import base64
import secrets
import urllib.parse

# The characters besides letters and digits in SAP's client secrets.
_AWKWARD = "$=-_"

# A part of a secret is found if it is longer than this by a half.
_PART = 16


class Secrets:
    """Creates secrets and records them, together with secrets that others made (tokens)."""

    def __init__(self):
        self._values: dict[str, None] = {}

    def new(self) -> str:
        return self.add(secrets.token_urlsafe(24) + _AWKWARD)

    def add(self, value: str) -> str:
        self._values[value] = None
        return value

    def values(self) -> list[str]:
        return list(self._values)

    def shown_in(self, text: bytes) -> list[str]:
        """Returns the secrets that the text contains: as they are, percent-encoded, or within
        base64. A part of a long secret is enough."""
        samples = {text[at : at + _PART] for at in range(0, len(text), _PART // 2)}

        def shown(form: bytes) -> bool:
            parts = (form[at : at + _PART] for at in range(len(form) - _PART + 1))
            return form in text or any(part in samples for part in parts)

        return [value for value in self.values() if any(map(shown, _forms(value)))]


def _forms(value: str) -> list[bytes]:
    raw = value.encode()
    return [raw, urllib.parse.quote_plus(value).encode(), *_within_base64(raw)]


def _within_base64(raw: bytes) -> list[bytes]:
    """Returns the base64 characters that only these bytes determine, for each of the three
    positions in a group at which they can begin."""
    found = []
    for before in range(3):
        text = base64.b64encode(bytes(before) + raw)
        whole_groups = (before + len(raw)) // 3 * 4
        found.append(text[(before * 8 + 5) // 6 : whole_groups])
    return found

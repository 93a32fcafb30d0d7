"""Following objects of the API server."""

import contextlib
import http.client
import threading
from collections.abc import Callable

from harness.kube import ApiError, Client

FAILURES = (OSError, http.client.HTTPException, ApiError, ValueError)


def start(
    kube: Client, path: str, changed: Callable[[dict], None], gone: Callable[[dict], None]
) -> None:
    """Tells in a thread of every object below the path, of each later change and of each that has
    gone, as long as the process lives."""
    threading.Thread(target=_follow, args=(kube, path, changed, gone), daemon=True).start()


def _follow(kube, path, changed, gone) -> None:
    known: dict[str, dict] = {}
    while True:
        # A watch ends now and then; a list shows what has been missed.
        with contextlib.suppress(*FAILURES):
            listed = kube.get(path)
            items = {item["metadata"]["uid"]: item for item in listed["items"] or []}
            for uid in known.keys() - items.keys():
                gone(known.pop(uid))
            for uid, item in items.items():
                known[uid] = item
                changed(item)
            _watch(kube, path, listed["metadata"]["resourceVersion"], known, changed, gone)


def _watch(kube, path, version, known, changed, gone) -> None:
    joint = "&" if "?" in path else "?"
    for event in kube.watch(f"{path}{joint}watch=1&resourceVersion={version}"):
        item = event["object"]
        if event["type"] == "ERROR":
            return
        if event["type"] == "DELETED":
            known.pop(item["metadata"]["uid"], None)
            gone(item)
        else:
            known[item["metadata"]["uid"]] = item
            changed(item)

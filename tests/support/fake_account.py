"""One account at a provider, with whatever is stored in it: OpenAI's, Anthropic's or Google's, as the path says.

    async with Peer(account := Account()) as peer: …

`POST` to a collection makes a thing, `GET` of it lists a page of them, and below it each can be shown and deleted.  Whoever asks
is let to everything, as at the real ones: they know the account only.
"""

import re
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, unquote

import msgspec

from support.peer import Visit

COLLECTIONS = {
    "assistants": "asst_",
    "batches": "batch_",
    "containers": "cntr_",
    "conversations": "conv_",
    "evals": "eval_",
    "files": "file-",
    "fine_tuning/jobs": "ftjob-",
    "messages/batches": "msgbatch_",
    "skills": "skill_",
    "threads": "thread_",
    "uploads": "upload_",
    "vector_stores": "vs_",
    "videos": "video_",
}
"""Of OpenAI and Anthropic: how their ids begin."""
GOOGLES = ("cachedContents", "files", "fileSearchStores", "corpora", "tunedModels")
PAGE = 2
"""Things on a page, unless more are asked for."""

_PATH = re.compile(r"(?:/upload)?/(v1(?:beta)?)/(.+)")


@dataclass
class Account:
    """What is stored, and what was asked."""

    things: dict[str, dict[str, Any]] = field(default_factory=dict)
    """By their names, in the order in which they were made."""
    asked: list[str] = field(default_factory=list)
    """`METHOD target` of every request."""
    bodies: list[bytes] = field(default_factory=list)
    says: dict[str, tuple[int, bytes, str]] = field(default_factory=dict)
    """What is answered to `METHOD path` instead: status, body and content type."""
    made: int = 0

    async def __call__(self, visit: Visit) -> None:
        while True:
            request = await visit.request()
            self.asked.append(f"{request.method} {request.target}")
            self.bodies.append(request.body)
            path, _, query = request.target.partition("?")
            said = self.says.get(f"{request.method} {path}")
            if said is None:
                said = self._answer(
                    request.method, unquote(path), dict(parse_qsl(query)), request.body, dict(request.headers)
                )
            status, body, kind = said
            more = [("x-goog-upload-status", "active")] if "/upload/" in path else []
            if dict(request.headers).get("x-goog-upload-command") == "start":
                host = dict(request.headers)["host"]
                more.append(("x-goog-upload-url", f"http://{host}/upload/v1beta/files?upload_id=up-{self.made}1"))
            await visit.answer(body, status=status, content_type=kind, headers=more)

    def _answer(
        self, method: str, path: str, query: dict[str, str], body: bytes, headers: dict[str, str]
    ) -> tuple[int, bytes, str]:
        found = _PATH.fullmatch(path)
        if found is None:
            return _json({"error": {"message": "no such path"}}, 404)
        version, rest = found[1], found[2]
        if version == "v1beta":
            return self._googles(method, rest, query, body, headers)
        for collection, prefix in COLLECTIONS.items():
            if rest == collection:
                return self._list(collection, query) if method == "GET" else self._make(collection, prefix, body)
            if rest.startswith(f"{collection}/"):
                name, _, below = rest.removeprefix(f"{collection}/").partition("/")
                return self._one(method, name, below)
        return _json({"data": [], "text": "done"})

    def _one(self, method: str, name: str, below: str) -> tuple[int, bytes, str]:
        thing = self.things.get(name)
        if thing is None:
            return _json({"error": {"message": f"No such thing: {name}"}}, 404)
        if method == "DELETE" and not below:
            del self.things[name]
            return _json({"id": name, "deleted": True})
        if below == "content":
            return 200, f"the content of {name}".encode(), "text/plain"
        if below and method == "POST":
            self.made += 1
            return _json({"id": f"inner_{self.made}", "object": below})
        return _json({"object": "list", "data": []} if below else thing)

    def _make(self, collection: str, prefix: str, body: bytes) -> tuple[int, bytes, str]:
        self.made += 1
        name = f"{prefix}{self.made}"
        self.things[name] = {"id": name, "object": collection, "created_at": self.made}
        return _json(self.things[name])

    def _list(self, collection: str, query: dict[str, str]) -> tuple[int, bytes, str]:
        found = [each for each in self.things.values() if each["object"] == collection]
        names = [each["id"] for each in found]
        size = int(query.get("limit", PAGE))
        after = query.get("after") or query.get("after_id")
        # A cursor may have been deleted since.
        start = (
            sum(each["created_at"] <= int(after.removeprefix(COLLECTIONS[collection])) for each in found)
            if after
            else 0
        )
        if before := query.get("before_id"):
            start = max(0, names.index(before) - size)
        page = found[start : start + size]
        has_more = start > 0 if before else start + size < len(found)
        first, last = (page[0]["id"], page[-1]["id"]) if page else (None, None)
        return _json({"object": "list", "data": page, "first_id": first, "last_id": last, "has_more": has_more})

    def _googles(
        self, method: str, rest: str, query: dict[str, str], body: bytes, headers: dict[str, str]
    ) -> tuple[int, bytes, str]:
        command = headers.get("x-goog-upload-command", "")
        if command and "finalize" not in command:
            return 200, b"", "application/json"
        if ":batchGenerateContent" in rest:
            return self._make_googles("batches", "batches/b")
        if rest in GOOGLES and method == "POST":
            made = self._make_googles(rest, f"{rest}/g")
            if command:
                return _json({"file": msgspec.json.decode(made[1])})
            return made
        if rest in GOOGLES:
            found = [each for name, each in self.things.items() if name.startswith(f"{rest}/")]
            start = int(query.get("pageToken", 0))
            size = int(query.get("pageSize", PAGE))
            more = {"nextPageToken": str(start + size)} if start + size < len(found) else {}
            return _json({rest: found[start : start + size], **more} if found else {})
        name = rest.partition(":")[0]
        if name not in self.things:
            return _json({"error": {"message": f"no {name}", "code": 404}}, 404)
        if method == "DELETE":
            del self.things[name]
            return _json({})
        return _json(self.things[name])

    def _make_googles(self, collection: str, start: str) -> tuple[int, bytes, str]:
        self.made += 1
        name = f"{start}{self.made}"
        self.things[name] = {"name": name, "displayName": "g"}
        return _json(self.things[name])


def _json(body: object, status: int = 200) -> tuple[int, bytes, str]:
    return status, msgspec.json.encode(body), "application/json"

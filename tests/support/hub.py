"""A stand-in for the Hub of Hugging Face on the loopback: one model repository, as far as push and pull ask for it."""

import base64
import hashlib
import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

REPOSITORY, TOKEN, COMMIT = "shop/kaleido", "hf_HIDDEN", "0" * 39 + "1"
LARGE = 1000  # bytes from which on a file is stored apart (LFS)


class Hub(ThreadingHTTPServer):
    """files: {name: content} of the repository; private: as it was made; None = there is none yet; commits: their number."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.files: dict[str, bytes] = {}
        self.objects: dict[str, bytes] = {}
        self.private: bool | None = None
        self.commits = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Handler(BaseHTTPRequestHandler):
    server: Hub

    def log_message(self, *arguments):
        pass

    def do_GET(self):
        server, path = self.server, self.path.partition("?")[0]
        if not self._allowed() or server.private is None:
            return self._answer(404 if self._allowed() else 401, {"error": "no"}, {"X-Error-Code": "RepoNotFound"})
        if path.startswith(f"/api/models/{REPOSITORY}/tree/"):
            return self._answer(200, [{"type": "file", "path": name, "size": len(content), "oid": hashlib.sha1(content).hexdigest()}
                                      for name, content in server.files.items()])
        if path.startswith(f"/api/models/{REPOSITORY}"):
            return self._answer(200, {"_id": "1", "id": REPOSITORY, "modelId": REPOSITORY, "sha": COMMIT, "private": server.private,
                                      "siblings": [{"rfilename": name} for name in server.files]})
        name = path.partition("/resolve/")[2].partition("/")[2]
        if name not in server.files:
            return self._answer(404, {"error": "no"}, {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": COMMIT})
        content = server.files[name]
        return self._send(200, content, {"ETag": f'"{hashlib.sha1(content).hexdigest()}"', "X-Repo-Commit": COMMIT,
                                         "Content-Type": "application/octet-stream"})

    do_HEAD = do_GET

    def do_PUT(self):
        oid = self.path.rpartition("/")[2]
        content = self._body()
        assert hashlib.sha256(content).hexdigest() == oid
        self.server.objects[oid] = content
        self._send(200, b"")

    def do_POST(self):
        server, body = self.server, self._body()
        if not self._allowed():
            return self._answer(401, {"error": "no"})
        if self.path == "/api/repos/create":
            if server.private is not None:
                return self._answer(409, {"error": "there already", "url": f"{server.url}/{REPOSITORY}"})
            server.private = json.loads(body).get("visibility") == "private"
            return self._answer(200, {"url": f"{server.url}/{REPOSITORY}", "name": REPOSITORY})
        if self.path == "/api/validate-yaml":  # of README.md
            return self._answer(200, {"errors": [], "warnings": []})
        if "/preupload/" in self.path:
            return self._answer(200, {"files": [{"path": file["path"], "shouldIgnore": False, "oid": None,
                                                 "uploadMode": "lfs" if file["size"] >= LARGE else "regular"}
                                                for file in json.loads(body)["files"]]})
        if self.path.endswith("/info/lfs/objects/batch"):
            return self._answer(200, {"transfer": "basic", "objects": [
                {**file, "actions": {"upload": {"href": f"{server.url}/objects/{file['oid']}"}}} for file in json.loads(body)["objects"]]})
        if "/commit/" in self.path:
            for line in map(json.loads, body.splitlines()):
                value = line["value"]
                if line["key"] == "file":
                    server.files[value["path"]] = base64.b64decode(value["content"])
                elif line["key"] == "lfsFile":
                    server.files[value["path"]] = server.objects[value["oid"]]
            server.commits += 1
            return self._answer(200, {"success": True, "commitOid": COMMIT, "commitUrl": f"{server.url}/{REPOSITORY}/commit/{COMMIT}"})
        return self._answer(404, {"error": self.path})

    def _allowed(self) -> bool:
        return self.headers.get("Authorization", f"Bearer {TOKEN}") == f"Bearer {TOKEN}" and (
            "Authorization" in self.headers or not self.server.private)

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") == "chunked":
            chunks = []
            while size := int(self.rfile.readline(), 16):
                chunks.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(chunks)
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def _answer(self, status: int, value, headers=None):
        self._send(status, json.dumps(value).encode(), {"Content-Type": "application/json"} | (headers or {}))

    def _send(self, status: int, content: bytes, headers=None):
        self.send_response(status)
        for name, value in ({"Content-Length": str(len(content))} | (headers or {})).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

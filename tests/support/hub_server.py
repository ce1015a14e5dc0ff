"""The part of the Hugging Face Hub's protocol that an upload uses, on this machine: accounts, repositories, commits."""

import base64
import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

TOKEN = "hf_of_a_test"  # noqa: S105 - known to this server alone


class HubServer:
    """Keeps what is committed in `files`, by repository and path, and visibilities in `private`.

    Repositories of the owner `others` are refused.
    """

    def __init__(self):
        self.files, self.private = {}, {}
        hub = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *_):
                pass

            def answer(self, code, body):
                data = json.dumps(body).encode()
                self.send_response(code)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def do_GET(self):
                if self.path != "/api/whoami-v2":
                    self.answer(404, {"error": "Repository not found"})
                elif self.headers.get("Authorization") != f"Bearer {TOKEN}":
                    self.answer(401, {"error": "Invalid username or password."})
                else:
                    self.answer(200, {"name": "me", "orgs": []})

            def do_POST(self):
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                self.answer(*hub.post(self.path, body))

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        Thread(target=self.server.serve_forever, daemon=True).start()

    def post(self, path, body):
        """Answer a request as the hub does."""
        if path == "/api/repos/create":
            asked = json.loads(body)
            name = f"{asked.get('organization') or 'me'}/{asked['name']}"
            if name.startswith("others/"):
                return 403, {"error": "You don't have the rights to create a model under the namespace others"}
            self.private[name] = asked.get("private", asked.get("visibility") == "private")
            return 200, {"url": f"{self.url}/{name}"}
        if path == "/api/validate-yaml":
            return 200, {"errors": [], "warnings": []}
        name = "/".join(path.split("/")[3:5])
        if "/preupload/" in path:
            return 200, {
                "files": [
                    {"path": file["path"], "uploadMode": "regular", "shouldIgnore": False}
                    for file in json.loads(body)["files"]
                ]
            }
        assert "/commit/" in path, path
        for line in map(json.loads, body.splitlines()):
            if line["key"] == "file":
                kept = self.files.setdefault(name, {})
                kept[line["value"]["path"]] = base64.b64decode(line["value"]["content"])
        return 200, {"success": True, "commitOid": "0" * 40, "commitUrl": f"{self.url}/{name}/commit/{'0' * 40}"}

    def close(self):
        """Stop the server."""
        self.server.shutdown()
        self.server.server_close()

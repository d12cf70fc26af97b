"""A small server on this machine that speaks OpenAI's API and can be told to misbehave."""

import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Server(ThreadingHTTPServer):
    """Answers the last prompt backwards; `plan` holds what the next requests get instead."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.plan, self.requests = [], []
        self.lock, self.busy, self.most, self.pause = threading.Lock(), 0, 0, 0.0
        self.address = f"http://127.0.0.1:{self.server_address[1]}"


class Handler(BaseHTTPRequestHandler):
    def log_message(self, *_):
        pass

    def do_GET(self):  # where a redirect would lead
        self.server.requests.append(("GET", self.path, {}, dict(self.headers)))
        self.send_error(404)

    def do_POST(self):
        server = self.server
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with server.lock:
            server.requests.append(("POST", self.path, body, dict(self.headers)))
            planned = server.plan.pop(0) if server.plan else None
            server.busy += 1
            server.most = max(server.most, server.busy)
        time.sleep(server.pause)
        with server.lock:
            server.busy -= 1
        (planned or reply_well)(self, body)

    def send(self, status, content, **headers):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


def reply_well(handler, body):
    chat = handler.path.endswith("/chat/completions")
    prompt = body["messages"][-1]["content"] if chat else body["prompt"]
    text = prompt[::-1]
    choice = {"index": 0, "finish_reason": "stop"} | (
        {"message": {"role": "assistant", "content": text}} if chat else {"text": text}
    )
    reply = {"choices": [choice], "usage": {"completion_tokens": len(text)}}
    handler.send(200, json.dumps(reply).encode(), Content_Type="application/json")


def fails(status, text="no", **headers):
    return lambda handler, body: handler.send(status, text.encode(), **headers)


def breaks_off(handler, body):
    handler.connection.close()

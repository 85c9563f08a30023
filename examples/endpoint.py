"""A model behind HTTP audited from outside: the audit sees what a client sees, and no more.

A small server answers digits here, so that the example needs nothing else. For a real one, give its URL, and the key
from the environment: headers={"Authorization": "Bearer env:MODEL_KEY"}.
"""

import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import numpy as np
from sklearn.tree import DecisionTreeClassifier

import seepage
from seepage.data import load_builtin, split_records

data = split_records(load_builtin("digits"))
model = DecisionTreeClassifier(random_state=0).fit(data.members.x.reshape(len(data.members), -1), data.members.y)


class Answers(BaseHTTPRequestHandler):
    """POST {"inputs": [records]} -> {"predictions": [scores]}"""

    protocol_version = "HTTP/1.1"

    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["inputs"]
        scores = model.predict_proba(np.asarray(asked).reshape(len(asked), -1))
        body = json.dumps({"predictions": scores.tolist()}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        """Every request would be one line on the terminal."""


server = ThreadingHTTPServer(("127.0.0.1", 0), Answers)
Thread(target=server.serve_forever, daemon=True).start()

record = seepage.audit(
    f"http://127.0.0.1:{server.server_port}/predict",
    members=data.members,
    nonmembers=data.nonmembers,
    public=data.public,
    attacks=["threshold"],
    batch=100,
)
server.shutdown()
server.server_close()

finding = record.findings[0]
print(f"{finding.queries} queries, membership: {record.verdict('membership')}")
for reason in record.verdict("membership").reasons:
    print("  " + reason)

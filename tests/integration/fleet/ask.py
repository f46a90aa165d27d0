"""Send requests as they are, also malformed ones: a pickled case per line on stdin, JSON answers on stdout."""

import base64
import contextlib
import http.client
import json
import pickle
import ssl
import sys
import time

host, port, authority = sys.argv[1:]
context = ssl.create_default_context(cafile=authority)


def ask(case):
    headers = {"Accept": "application/json", **case["headers"]}
    body = case["data"]
    if case["json"] is not None:
        body = json.dumps(case["json"])
        headers.setdefault("Content-Type", "application/json")
    if isinstance(body, list):
        headers["Transfer-Encoding"] = "chunked"
    connection = http.client.HTTPSConnection(host, int(port), timeout=case.get("timeout", 120), context=context)
    started = time.monotonic()
    try:
        # if the server has refused the rest, its answer may be there
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            connection.request(
                case["method"], case["path"], body=iter(body) if isinstance(body, list) else body, headers=headers,
                encode_chunked=isinstance(body, list),
            )  # fmt: skip
        response = connection.getresponse()
        text = response.read(100_000).decode(errors="replace")
        return {"status": response.status, "text": text, "headers": dict(response.getheaders()),
                "seconds": time.monotonic() - started}  # fmt: skip
    except (OSError, http.client.HTTPException) as err:
        return {
            "status": 0,
            "text": f"{type(err).__name__}: {err}",
            "headers": {},
            "seconds": time.monotonic() - started,
        }
    finally:
        connection.close()


for line in sys.stdin:
    print(json.dumps(ask(pickle.loads(base64.b64decode(line)))), flush=True)

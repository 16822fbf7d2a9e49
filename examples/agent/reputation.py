"""A service in Python for procmond to call, on busrt's own client library (pip install busrt).

    reputation.py SOCKET [NAME]     serves `reputation`: {"sha256": …} is answered by {"known": true or false}
"""
import json
import sys
import threading

from busrt.client import Client
from busrt.rpc import Rpc, RpcException

# What is to be recognised; a real service would have a database.
KNOWN = set()
NO_SUCH_METHOD = -32601

client = Client(sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else "reputation")
client.connect()
rpc = Rpc(client)


def on_call(event):
    if event.method != b"reputation":
        raise RpcException("there is `reputation` only", NO_SUCH_METHOD)
    digest = json.loads(event.get_payload())["sha256"]
    print(digest, flush=True)
    return json.dumps({"known": digest in KNOWN}).encode()


rpc.on_call = on_call
print("ready", flush=True)
threading.Event().wait()

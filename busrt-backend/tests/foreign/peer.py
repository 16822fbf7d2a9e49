"""A client without a session, on busrt's own Python libraries.

    peer.py busrt|busrt_async publish   SOCKET TOPIC PAYLOAD    says `published`
    peer.py busrt|busrt_async subscribe SOCKET TOPIC            says `ready`, then a line per event
    peer.py busrt|busrt_async call      SOCKET SERVICE METHOD [REQUEST]
                                                                calls with REQUEST or {"from": "python"}, says what comes
    peer.py busrt|busrt_async serve     SOCKET NAME             says `ready`, then serves `sum` and `fail`

The decoder is the one of docs/wire-format.md, which the test has written to decoder.py.
"""
import asyncio
import json
import os
import sys
import threading
import traceback

from decoder import decode

OK, PUBLISH, PROCESSED = 1, 1, 1
# A publication that nobody takes: once it is acknowledged, the broker has handled what went before.
NOBODYS = "eb-ping"


def tell(frame):
    if frame.type != PUBLISH:
        return
    try:
        events = list(decode(frame.payload))
    except Exception:
        # The libraries would log it and go on.
        traceback.print_exc()
        os._exit(1)
    for publisher, sequence, content_type, metadata, payload in events:
        event = {
            "topic": frame.topic,
            "publisher": publisher,
            "sequence": sequence,
            "content_type": content_type,
            "metadata": metadata,
            "payload": payload.hex(),
        }
        print(json.dumps(event), flush=True)


def answer(method, payload):
    """What the served methods do, in both libraries."""
    if method == b"sum":
        return json.dumps(sum(json.loads(payload))).encode()
    if method == b"fail":
        raise ValueError("python has failed")
    raise KeyError(method)


def told(reply, error):
    if error is None:
        print(json.dumps({"reply": json.loads(bytes(reply))}), flush=True)
    else:
        # The libraries' own errors are text.
        message = error.rpc_error_payload
        message = message if isinstance(message, str) else bytes(message).decode()
        print(json.dumps({"code": error.rpc_error_code, "message": message}), flush=True)


def failure(module, error):
    code = -32601 if isinstance(error, KeyError) else 77
    return module.RpcException(str(error), code)


def acknowledged(code):
    assert code == OK, f"the broker answered {code:#x}"


def sync(role, socket, topic, payload):
    from busrt.client import Client, Frame

    def publish(topic, payload):
        sent = client.send(topic, Frame(payload, tp=PUBLISH, qos=PROCESSED))
        acknowledged(sent.wait_completed(timeout=30))

    client = Client(socket, topic if role == "serve" else f"py-{role}")
    client.on_frame = tell
    client.connect()
    if role in ("call", "serve"):
        import busrt.rpc as module

        rpc = module.Rpc(client)
        if role == "call":
            asked = module.Request(payload, request)
            called = rpc.call(topic, asked)
            try:
                told(called.wait_completed(timeout=30).get_payload(), None)
            except module.RpcException as error:
                told(None, error)
            return

        def on_call(event):
            try:
                return answer(bytes(event.method), event.get_payload())
            except Exception as error:
                raise failure(module, error)

        rpc.on_call = on_call
        print("ready", flush=True)
        threading.Event().wait()
    elif role == "publish":
        publish(topic, payload)
        print("published", flush=True)
    else:
        client.subscribe(topic)
        publish(NOBODYS, b"")
        print("ready", flush=True)
        threading.Event().wait()


async def asynchronous(role, socket, topic, payload):
    from busrt_async.client import Client, Frame

    async def publish(topic, payload):
        sent = await client.send(topic, Frame(payload, tp=PUBLISH, qos=PROCESSED))
        acknowledged(await sent.wait_completed(timeout=30))

    async def on_frame(frame):
        tell(frame)

    client = Client(socket, topic if role == "serve" else f"py-async-{role}")
    client.on_frame = on_frame
    await client.connect()
    if role in ("call", "serve"):
        import busrt_async.rpc as module

        rpc = module.Rpc(client)
        if role == "call":
            asked = module.Request(payload, request)
            called = await rpc.call(topic, asked)
            try:
                told((await called.wait_completed(timeout=30)).get_payload(), None)
            except module.RpcException as error:
                told(None, error)
            return

        async def on_call(event):
            try:
                return answer(bytes(event.method), event.get_payload())
            except Exception as error:
                raise failure(module, error)

        rpc.on_call = on_call
        print("ready", flush=True)
        await asyncio.Event().wait()
    elif role == "publish":
        await publish(topic, payload)
        print("published", flush=True)
    else:
        await client.subscribe(topic)
        await publish(NOBODYS, b"")
        print("ready", flush=True)
        await asyncio.Event().wait()


library, role, socket, topic, *words = sys.argv[1:]
payload = words[0] if words else ""
request = (words[1] if len(words) > 1 else '{"from": "python"}').encode()
if role != "call":
    payload = payload.encode()
if library == "busrt":
    sync(role, socket, topic, payload)
else:
    asyncio.run(asynchronous(role, socket, topic, payload))

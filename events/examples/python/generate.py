"""Ask genfn for a picture from Python: publish a CloudEvent, print progress, fetch the result.
Ctrl-C cancels the request.

    pip install --require-hashes -r requirements.txt
    python generate.py --prompt "a red apple" --out apple.png [--mode structured]
"""

import argparse
import asyncio
import hashlib
import json
import signal
import sys
import uuid

import nats
from cloudevents.core.bindings.http import HTTPMessage, from_http_event, to_binary_event, to_structured_event
from cloudevents.core.v1.event import CloudEvent

TENANT = "default"


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--nats", default="nats://127.0.0.1:4222")
    parser.add_argument("--model", default="emoji")
    parser.add_argument("--prompt", required=True)
    parser.add_argument("--seed", type=int)
    parser.add_argument("--steps", type=int)
    parser.add_argument("--mode", choices=["binary", "structured"], default="binary")
    parser.add_argument("--out", required=True)
    return parser.parse_args()


def pool(model):
    """The token of the subject that says which function and model a request is for."""
    safe = "".join(c if c.isascii() and (c.isalnum() or c in "_-") else "=%02X" % ord(c) for c in model)
    return "image-" + safe


def request(args, request_id):
    data = {"model": args.model, "prompt": args.prompt}
    if args.seed is not None:
        data["seed"] = args.seed
    if args.steps is not None:
        data["steps"] = args.steps
    return CloudEvent(
        {
            "type": "dev.genfn.image.generate.v1",
            "source": "/examples/python",
            "id": request_id,
            "subject": request_id,
            "datacontenttype": "application/json",
        },
        data,
    )


def cancellation(request_id):
    return CloudEvent(
        {
            "type": "dev.genfn.generation.cancel.v1",
            "source": "/examples/python",
            "id": str(uuid.uuid4()),
            "subject": request_id,
            "datacontenttype": "application/json",
        },
        {"reason": "interrupted"},
    )


def encode(event, mode):
    return to_binary_event(event) if mode == "binary" else to_structured_event(event)


def decode(msg):
    return from_http_event(HTTPMessage(headers={k.lower(): v for k, v in (msg.headers or {}).items()}, body=msg.data))


async def cancel(connection, request_id, mode):
    """Ask for the end of a request. The reply is its terminal event, or an error without ce- headers."""
    message = encode(cancellation(request_id), mode)
    reply = await connection.request(f"gen.cancel.{TENANT}.{request_id}", message.body, headers=message.headers, timeout=10)
    if "ce-type" in reply.headers:
        print("cancel: the request ended as", decode(reply).get_type())
    else:
        print("not cancelled:", reply.data.decode(), file=sys.stderr)


async def main():
    args = arguments()
    request_id = str(uuid.uuid4())
    connection = await nats.connect(args.nats)
    stream = connection.jetstream()

    # Listen first, then ask: nothing is missed.
    answers = asyncio.Queue()
    for subject in (f"gen.evt.{TENANT}.{request_id}.*", f"gen.ans.{TENANT}.{request_id}"):
        await connection.subscribe(subject, cb=answers.put)

    message = encode(request(args, request_id), args.mode)
    await stream.publish(
        f"gen.req.{pool(args.model)}.any.interactive.{TENANT}.{request_id}",
        message.body,
        headers={**message.headers, "Nats-Msg-Id": request_id},
    )

    cancels = set()
    asyncio.get_running_loop().add_signal_handler(
        signal.SIGINT, lambda: cancels.add(asyncio.create_task(cancel(connection, request_id, args.mode)))
    )
    newest = 0
    while True:
        answer = decode(await answers.get())
        kind, data = answer.get_type().split(".")[3], answer.get_data()
        attempt = int(answer.get_extension("attempt") or 0)
        newest = max(newest, attempt)
        if kind == "progress" and attempt < newest:
            continue  # of an attempt that another has taken over from and that does not know it yet
        if kind == "progress":
            print(f"progress {data['stage']} {data.get('step', 0)}/{data.get('steps', 0)}")
        elif kind == "succeeded":
            break
        elif kind in ("failed", "cancelled", "expired"):
            print(json.dumps(data.get("error", data)), file=sys.stderr)
            await asyncio.gather(*cancels)
            return 1

    artifact = next(a for a in data["artifacts"] if a["role"] == "image")
    bucket = await stream.object_store(artifact["ref"]["bucket"])
    picture = (await bucket.get(artifact["ref"]["object"])).data
    if hashlib.sha256(picture).hexdigest() != artifact["ref"]["sha256"]:
        print("the picture does not have the announced checksum", file=sys.stderr)
        return 1
    with open(args.out, "wb") as file:
        file.write(picture)
    print(f"succeeded {args.out} seed {data['request']['seed']}")
    await connection.close()
    return 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))

"""Somebody who takes the requests of the harness's raw JetStream, in Python with nats-py: as bench/worker_broker.go, which
makes the streams, he fetches one request at a time, says so at once, answers and acknowledges.

    nats_worker.py URL

Runs until its standard input ends.
"""

import asyncio
import json
import sys

import nats
from nats.errors import TimeoutError

STREAM, DURABLE = "RAW_REQ", "raw"
REQUESTS, LIVE, FINAL = "raw.req.", "raw.live.", "raw.fin."


async def serve(connection):
    stream = connection.jetstream()
    requests = await stream.pull_subscribe_bind(consumer=DURABLE, stream=STREAM)
    print(json.dumps({"texts": {}}), flush=True)
    while True:
        try:
            [request] = await requests.fetch(1, timeout=30)
        except TimeoutError:
            continue
        name = request.subject.removeprefix(REQUESTS)
        await connection.publish(LIVE + name, request.data)
        await stream.publish(FINAL + name, request.data)
        await request.ack_sync()


async def main():
    connection = await nats.connect(sys.argv[1])
    serving = asyncio.create_task(serve(connection))
    ended = asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    await asyncio.wait([serving, ended], return_when=asyncio.FIRST_COMPLETED)
    if serving.done():
        serving.result()
    serving.cancel()
    await connection.close()


asyncio.run(main())

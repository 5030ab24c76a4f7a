// Ask genfn for a picture from JavaScript: publish a CloudEvent, print progress, fetch the result.
//
//     npm ci
//     node generate.mjs --prompt "a red apple" --out apple.png [--mode structured]
import { randomUUID } from "node:crypto";
import { writeFile } from "node:fs/promises";
import { parseArgs } from "node:util";
import { connect, headers } from "@nats-io/transport-node";
import { jetstream } from "@nats-io/jetstream";
import { Objm } from "@nats-io/obj";
import { CloudEvent, HTTP } from "cloudevents";

const tenant = "default";
const { values: args } = parseArgs({
  options: {
    nats: { type: "string", default: "nats://127.0.0.1:4222" },
    model: { type: "string", default: "emoji" },
    prompt: { type: "string" },
    seed: { type: "string" },
    mode: { type: "string", default: "binary" },
    out: { type: "string" },
    help: { type: "boolean" },
  },
});
if (args.help || !args.prompt || !args.out || !["binary", "structured"].includes(args.mode)
  || (args.seed !== undefined && !Number.isSafeInteger(Number(args.seed)))) { // JSON.stringify would round others
  console.error("usage: node generate.mjs --prompt TEXT --out FILE [--mode binary|structured] [--model NAME] [--seed N]");
  process.exit(2);
}

// pool is the token of the subject that says which function and model a request is for.
const pool = (model) => "image-" + model.replace(/[^A-Za-z0-9_-]/g,
  (c) => "=" + c.charCodeAt(0).toString(16).toUpperCase().padStart(2, "0"));

function request(id) {
  const data = { model: args.model, prompt: args.prompt };
  if (args.seed !== undefined) data.seed = Number(args.seed);
  return new CloudEvent({
    type: "dev.genfn.image.generate.v1",
    source: "/examples/javascript",
    id,
    subject: id,
    datacontenttype: "application/json",
    data,
  });
}

function decode(message) {
  const received = {};
  for (const [name, list] of message.headers ?? []) received[name.toLowerCase()] = list[0];
  return HTTP.toEvent({ headers: received, body: message.string() });
}

const connection = await connect({ servers: args.nats });
const id = randomUUID();

// Listen first, then ask: nothing is missed.
let newest = 0;
const finished = new Promise((resolve, reject) => {
  const callback = (error, message) => {
    if (error) return reject(error);
    const event = decode(message);
    const kind = event.type.split(".")[3];
    const attempt = Number(event.attempt ?? 0);
    newest = Math.max(newest, attempt);
    if (kind === "progress") {
      if (attempt < newest) return; // of an attempt that another has taken over from and that does not know it yet
      console.log(`progress ${event.data.stage} ${event.data.step ?? 0}/${event.data.steps ?? 0}`);
    } else if (kind === "succeeded") {
      resolve(event.data);
    } else if (["failed", "cancelled", "expired"].includes(kind)) {
      reject(new Error(JSON.stringify(event.data.error ?? event.data)));
    }
  };
  connection.subscribe(`gen.evt.${tenant}.${id}.*`, { callback });
  connection.subscribe(`gen.ans.${tenant}.${id}`, { callback });
});

const message = HTTP[args.mode](request(id));
const sent = headers();
for (const [name, value] of Object.entries(message.headers)) sent.set(name, String(value));
sent.set("Nats-Msg-Id", id);
await jetstream(connection).publish(
  `gen.req.${pool(args.model)}.any.interactive.${tenant}.${id}`,
  typeof message.body === "string" ? message.body : JSON.stringify(message.body),
  { headers: sent },
);

try {
  const result = await finished;
  const artifact = result.artifacts.find((a) => a.role === "image");
  const bucket = await new Objm(connection).open(artifact.ref.bucket);
  // getBlob checks the object's own digest, which is the artifact's sha256.
  await writeFile(args.out, await bucket.getBlob(artifact.ref.object));
  console.log(`succeeded ${args.out} seed ${result.request.seed}`);
} catch (error) {
  console.error(error.message);
  process.exitCode = 1;
} finally {
  await connection.close();
}

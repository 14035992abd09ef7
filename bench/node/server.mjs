// What Waylink's ingest is compared with: fastify verifies the webhook, BullMQ takes one job for each, 202 follows.
// `node server.mjs PORT VALKEY_URL add|bulk`: `bulk` sends the jobs of one turn of the event loop together.
import { createHmac, timingSafeEqual } from "node:crypto";
import { Queue } from "bullmq";
import Fastify from "fastify";

const [port, valkey, mode] = process.argv.slice(2);
const { hostname: host, port: valkeyPort, password, pathname } = new URL(valkey);
const connection = { host, port: Number(valkeyPort), password, db: Number(pathname.slice(1)) };
const queue = new Queue("events", { connection });
let waiting = [];

function flush() {
  const jobs = waiting;
  waiting = [];
  queue.addBulk(jobs.map((one) => one.job)).then(
    () => jobs.forEach((one) => one.resolve()),
    (error) => jobs.forEach((one) => one.reject(error)),
  );
}

function addSoon(job) {
  if (waiting.length === 0) setImmediate(flush);
  return new Promise((resolve, reject) => waiting.push({ job, resolve, reject }));
}

const add = mode === "bulk" ? addSoon : (job) => queue.add(job.name, job.data);
const app = Fastify();
app.addContentTypeParser("application/json", { parseAs: "buffer" }, (_request, body, done) => done(null, body));
app.post("/webhooks/nango", async (request, reply) => {
  const expected = createHmac("sha256", process.env.SIGNING_KEY).update(request.body).digest();
  const given = Buffer.from(request.headers["x-nango-hmac-sha256"] ?? "", "hex");
  if (given.length !== expected.length || !timingSafeEqual(given, expected)) return reply.code(401).send();
  await add({ name: "event", data: { body: request.body.toString() } });
  return reply.code(202).send({ queued: true });
});
await app.listen({ host: "127.0.0.1", port: Number(port) });

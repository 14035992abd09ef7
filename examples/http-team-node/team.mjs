// A team that takes Waylink's jobs over HTTP: verify, do it once, answer 2xx.
import { createServer } from "node:http";
import { Webhook, WebhookVerificationError } from "standardwebhooks";

const webhook = new Webhook(process.env.WEBHOOK_SECRET);
const done = new Set(); // keep these in your database, in the transaction of the work

async function take(request) {
  const chunks = [];
  for await (const chunk of request) chunks.push(chunk);
  const job = webhook.verify(Buffer.concat(chunks), request.headers);
  if (done.has(job.id)) return; // delivery is at least once
  console.log(`${job.id}: welcome ${job.event.user?.email}: ${job.event.connection_id} is connected`);
  done.add(job.id);
}

createServer(async (request, response) => {
  try {
    await take(request);
    response.writeHead(204); // it is done
  } catch (error) { // Waylink sends the job again later, with the same id
    response.writeHead(error instanceof WebhookVerificationError ? 401 : 500);
  }
  response.end();
}).listen(Number(process.env.PORT ?? 9002), "127.0.0.1");

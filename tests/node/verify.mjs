// Reads {secret, body, headers} as JSON from standard input; prints the verified payload, or exits with 1.
import { readFileSync } from "node:fs";
import { Webhook } from "standardwebhooks";

const { secret, body, headers } = JSON.parse(readFileSync(0, "utf8"));
try {
  console.log(JSON.stringify(new Webhook(secret).verify(body, headers)));
} catch (refused) {
  console.error(refused.message);
  process.exit(1);
}

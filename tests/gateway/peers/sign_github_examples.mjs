// Signs every example that GitHub publishes with GitHub's own library: one JSON line for each, to standard output.
import { createRequire } from "node:module";
import { sign } from "@octokit/webhooks-methods";

const events = createRequire(import.meta.url)("@octokit/webhooks-examples/api.github.com/index.json");
const secret = process.argv[2];

for (const { name, examples } of events) {
  for (const example of examples) {
    const body = JSON.stringify(example);
    process.stdout.write(JSON.stringify({ event: name, body, signature: await sign(secret, body) }) + "\n");
  }
}

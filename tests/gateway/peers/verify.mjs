// Verifies requests that we signed, a JSON line each on standard input, and answers with true or false for each.
import { createInterface } from "node:readline";
import { verify } from "@octokit/webhooks-methods";
import "@shopify/shopify-api/adapters/node";
import { ApiVersion, LogSeverity, shopifyApi } from "@shopify/shopify-api";

const secret = process.argv[2];
const shopify = shopifyApi({
  apiKey: "key",
  apiSecretKey: secret,
  apiVersion: Object.values(ApiVersion).at(-1),
  hostName: "app.example.com",
  isEmbeddedApp: false,
  logger: { level: LogSeverity.Error },
});
const verifiers = {
  github: ({ body, headers }) => verify(secret, body, headers["x-hub-signature-256"]),
  shopify: async ({ body, headers }) =>
    (await shopify.webhooks.validate({
      rawBody: body,
      rawRequest: { method: "POST", url: "/", headers },
      rawResponse: {},
    })).valid,
};

for await (const line of createInterface({ input: process.stdin })) {
  const request = JSON.parse(line);
  process.stdout.write(`${await verifiers[request.source](request)}\n`);
}

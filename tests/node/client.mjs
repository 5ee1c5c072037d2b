// What a JavaScript program does with the cluster: find services, ask about them, call. Prints JSON.
// Run as: node client.mjs SERVER CREDS INBOX_PREFIX
import { readFileSync } from "node:fs";
import { Svcm } from "@nats-io/services";
import { connect, credsAuthenticator, headers } from "@nats-io/transport-node";

const [servers, creds, inboxPrefix] = process.argv.slice(2);
const authenticator = credsAuthenticator(new Uint8Array(readFileSync(creds)));
const connection = await connect({ servers, authenticator, inboxPrefix });
const services = new Svcm(connection).client({ strategy: "stall", maxWait: 5000 });

async function all(found) {
  const list = [];
  for await (const each of await found) list.push(each);
  return list;
}

async function call(subject, body, options = {}) {
  const answer = await connection.request(subject, body, { timeout: 20000, ...options });
  return {
    text: answer.string(),
    error: answer.headers?.get("Nats-Service-Error") ?? "",
    code: answer.headers?.get("Nats-Service-Error-Code") ?? "",
  };
}

const hurry = headers();
hurry.set("Motes-Timeout", "0.2 s");
const told = {
  result: await call("fn.shop.price", JSON.stringify("abc")),
  list: await call("fn.shop.numbers", "3"),
  bad: await call("fn.shop.price", JSON.stringify(7)),
  raised: await call("fn.shop.price", JSON.stringify("nothing")),
  missing: await call("fn.shop.gone", ""),
  late: await call("fn.shop.nap", "5", { headers: hurry }),
  never: await call("fn.shop.nap", "5", { headers: (() => { const h = headers(); h.set("Motes-Timeout", "soon"); return h; })() }),
  ping: await all(services.ping("shop")),
  everything: await all(services.ping()),
  info: await all(services.info("shop")),
  nobody: await all(services.ping("gone")).catch((error) => `${error}`),
};
told.one = await all(services.info("shop", told.ping[0].id));
told.stats = await all(services.stats("shop"));
console.log(JSON.stringify(told));
await connection.close();

// Signs up for an account whose identity is a key of one's own, waits until every server has it, and logs in to it:
// node account.mjs SERVICE SEED_FILE TOKEN_FILE NAME [PLAN]
// The seed (SA…) never leaves this machine. With PROOF_TIME set, to milliseconds since 1970, the program prints the request
// instead of sending it. Nothing but Node.js is needed, and @nats-io/transport-node to log in. docs/protocol.md says what
// the bytes mean.
import { createHash, sign } from "node:crypto";
import { readFileSync } from "node:fs";
import { setTimeout } from "node:timers/promises";
import { keyPair } from "./nkey.mjs";

function accountRequest(service, seed, token, name, plan, time) {
  const { key, publicKey } = keyPair(seed);
  const hash = createHash("sha256").update(token).digest("hex");
  const statement = ["gatehouse account.signup v1", service, publicKey, name, plan, hash, String(time)].join("\n");
  const signature = sign(null, Buffer.from(statement), key).toString("base64url");
  return { name, plan, key: publicKey, proof: { audience: service, time, signature } };
}

async function call(operation, body) {
  const response = await fetch(`${service}/v1/${operation}`, {
    method: "POST", redirect: "error", body: JSON.stringify(body),
    headers: { Authorization: `Bearer ${token}`, "Content-Type": "application/json" },
  });
  const answer = await response.json();
  if (!response.ok) throw new Error(`${answer.reason}: ${answer.message} [request ${answer.request_id}]`);
  return answer;
}

// signUp returns once every server has the account, which an admin may have to approve first.
async function signUp(request) {
  let answer = await call("account.signup", request), said = "";
  while (answer.state !== "active") {
    if (answer.state !== said) console.log(`account ${name} (${answer.account}) is ${(said = answer.state)}`);
    await setTimeout(1000);
    answer = await call("account.get", { account: name });
  }
  console.log(`account ${name} (${answer.account}) is active`);
}

// login connects to the servers that the service names, as a member of the account.
async function login() {
  const { connect, credsAuthenticator, usernamePasswordAuthenticator } = await import("@nats-io/transport-node");
  const { nats, sentinel } = await (await fetch(`${service}/.well-known/gatehouse`)).json();
  const authenticator = [usernamePasswordAuthenticator(`account:${name}`, token)];
  if (sentinel) authenticator.push(credsAuthenticator(new TextEncoder().encode(sentinel)));
  const nc = await connect({ servers: nats, authenticator });
  console.log(`logged in to account ${name}`);
  await nc.close();
}

const [service, seedFile, tokenFile, name, plan = ""] = process.argv.slice(2);
const seed = readFileSync(seedFile, "utf8").trim();
const token = readFileSync(tokenFile, "utf8").trim();
const time = Number(process.env.PROOF_TIME ?? Date.now());
const request = accountRequest(service, seed, token, name, plan, time);
if (process.env.PROOF_TIME) {
  console.log(JSON.stringify(request));
} else {
  await signUp(request);
  await login();
}

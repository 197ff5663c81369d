// Signs up as a direct user: node signup.mjs SERVICE SEED_FILE TOKEN_FILE [ACCOUNT [PROGRAM]]
// With PROOF_TIME set, to milliseconds since 1970, it prints the request instead of sending it.
// Nothing but Node.js is needed. docs/protocol.md says what the bytes mean.
import { createHash, sign } from "node:crypto";
import { readFileSync } from "node:fs";
import { keyPair } from "./nkey.mjs";

function signupRequest(service, seed, token, account, program, time) {
  const { key, publicKey: userKey } = keyPair(seed);
  const hash = createHash("sha256").update(token).digest("hex");
  const statement = ["gatehouse user.signup v1", service, userKey, account, program, hash, String(time)].join("\n");
  const signature = sign(null, Buffer.from(statement), key).toString("base64url");
  return { user_key: userKey, account, program, proof: { audience: service, time, signature } };
}

const [service, seedFile, tokenFile, account = "", program = ""] = process.argv.slice(2);
const seed = readFileSync(seedFile, "utf8").trim();
const token = readFileSync(tokenFile, "utf8").trim();
const time = Number(process.env.PROOF_TIME ?? Date.now());
const request = signupRequest(service, seed, token, account, program, time);
if (process.env.PROOF_TIME) {
  console.log(JSON.stringify(request));
} else {
  const response = await fetch(`${service}/v1/user.signup`, {
    method: "POST", redirect: "error", body: JSON.stringify(request),
    headers: { Authorization: `Bearer ${token}`, "Content-Type": "application/json" },
  });
  const answer = await response.json();
  if (!response.ok) throw new Error(`${answer.reason}: ${answer.message} [request ${answer.request_id}]`);
  console.log(answer.jwt);
}

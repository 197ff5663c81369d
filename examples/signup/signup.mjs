// Signs up as a direct user: node signup.mjs SERVICE SEED_FILE TOKEN_FILE [ACCOUNT [PROGRAM]]
// With PROOF_TIME set, to milliseconds since 1970, it prints the request instead of sending it.
// Nothing but Node.js is needed. docs/protocol.md says what the bytes mean.
import { createHash, createPrivateKey, createPublicKey, sign } from "node:crypto";
import { readFileSync } from "node:fs";

const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";

function fromBase32(text) {
  const bytes = [];
  let bits = 0, value = 0;
  for (const c of text) {
    const digit = alphabet.indexOf(c);
    if (digit < 0) throw new Error("not an nkey");
    value = ((value << 5) | digit) & 0xfff;
    bits += 5;
    if (bits >= 8) bytes.push((value >> (bits -= 8)) & 0xff);
  }
  return Buffer.from(bytes);
}

function toBase32(bytes) {
  let text = "", bits = 0, value = 0;
  for (const b of bytes) {
    value = ((value << 8) | b) & 0x1fff;
    for (bits += 8; bits >= 5; ) text += alphabet[(value >> (bits -= 5)) & 31];
  }
  return bits > 0 ? text + alphabet[(value << (5 - bits)) & 31] : text;
}

function crc16(bytes) {
  let crc = 0;
  for (const b of bytes) {
    crc ^= b << 8;
    for (let i = 0; i < 8; i++) crc = (crc & 0x8000 ? (crc << 1) ^ 0x1021 : crc << 1) & 0xffff;
  }
  return Buffer.from([crc & 0xff, crc >> 8]);
}

// keyPair returns the key of a seed (SU…) and its public key (U…).
function keyPair(seed) {
  const raw = fromBase32(seed); // two bytes of prefixes, 32 of seed, two of checksum
  const pkcs8 = Buffer.concat([Buffer.from("302e020100300506032b657004220420", "hex"), raw.subarray(2, 34)]);
  const key = createPrivateKey({ key: pkcs8, format: "der", type: "pkcs8" });
  const body = Buffer.concat([Buffer.from([20 << 3]), createPublicKey(key).export({ format: "der", type: "spki" }).subarray(-32)]);
  return { key, userKey: toBase32(Buffer.concat([body, crc16(body)])) };
}

function signupRequest(service, seed, token, account, program, time) {
  const { key, userKey } = keyPair(seed);
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

// Key pairs of NATS, as docs/protocol.md describes them. Nothing but Node.js is needed.
import { createPrivateKey, createPublicKey } from "node:crypto";

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

// keyPair returns the key of a seed (SU… of a user, SA… of an account) and its public key (U…, A…).
export function keyPair(seed) {
  const raw = fromBase32(seed); // two bytes of prefixes, 32 of seed, two of checksum
  const pkcs8 = Buffer.concat([Buffer.from("302e020100300506032b657004220420", "hex"), raw.subarray(2, 34)]);
  const key = createPrivateKey({ key: pkcs8, format: "der", type: "pkcs8" });
  const prefix = ((raw[0] & 7) << 5) | (raw[1] >> 3);
  const body = Buffer.concat([Buffer.from([prefix]), createPublicKey(key).export({ format: "der", type: "spki" }).subarray(-32)]);
  return { key, publicKey: toBase32(Buffer.concat([body, crc16(body)])) };
}

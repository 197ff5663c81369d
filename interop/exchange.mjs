
// Appended to the README's example: says what becomes of its connection, one word a line, and answers what is
// asked of it on standard input.
import { createInterface } from "node:readline";

const say = (word) => process.stdout.write(`${word}\n`);

const exchange = async () => {
  const sub = nc.subscribe("app.hello", { max: 1 });
  nc.publish("app.hello", "world");
  for await (const m of sub) say(`received:${m.string()}`);
};

(async () => {
  for await (const s of nc.status()) say(s.type);
})();
nc.closed().then((err) => {
  say(`closed:${err ?? ""}`);
  process.exit(1);
});

// The token function must return at once: the client does not wait for a promise.
const promised = connect({
  servers: nc.getServer(),
  authenticator: tokenAuthenticator(async () => readFileSync("token.jwt", "utf8")),
  reconnect: false,
});
say(await promised.then(() => "promise:admitted", () => "promise:refused"));

say("ready");
for await (const line of createInterface({ input: process.stdin })) {
  if (line === "exchange") await exchange();
}
process.exit(0);

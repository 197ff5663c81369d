// What the page uses of the NATS library; npm install puts it into page/nats.js in one file, since browsers cannot load
// the library as it is published.
export { nkeyAuthenticator, nkeys, tokenAuthenticator, wsconnect } from "@nats-io/nats-core";

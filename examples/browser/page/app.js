import { nkeyAuthenticator, nkeys, tokenAuthenticator, wsconnect } from "./nats.js";

const element = (id) => document.getElementById(id);
const say = (text) => (element("status").textContent = text);

// base64url without padding, as OAuth and JOSE write it.
const base64url = (bytes) =>
  btoa(String.fromCharCode(...new Uint8Array(bytes))).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");
const random = () => base64url(crypto.getRandomValues(new Uint8Array(32)));

// logIn returns an ID token that is bound to the key: the key's public part is the nonce of the request (authorization
// code with PKCE). The login has a window of its own, so that the key can stay in this page's memory meanwhile.
async function logIn(config, key) {
  const popup = window.open("", "login", "popup,width=480,height=640");
  if (!popup) throw new Error("the browser blocks the login's window");
  const discovery = await (await fetch(`${config.issuer}/.well-known/openid-configuration`)).json();
  if (discovery.issuer !== config.issuer) throw new Error(`the issuer calls itself ${discovery.issuer}`);
  const state = random();
  const verifier = random();
  const challenge = base64url(await crypto.subtle.digest("SHA-256", new TextEncoder().encode(verifier)));
  const redirect = `${location.origin}/callback`;
  const nonce = key.getPublicKey();
  popup.location = `${discovery.authorization_endpoint}?${new URLSearchParams({
    response_type: "code", client_id: config.client, redirect_uri: redirect, scope: "openid profile email groups",
    state, nonce, code_challenge: challenge, code_challenge_method: "S256",
  })}`;

  const answer = await answerTo(state);
  if (answer.error) throw new Error(`the issuer refused: ${answer.error}`);
  const response = await fetch(discovery.token_endpoint, {
    method: "POST",
    body: new URLSearchParams({
      grant_type: "authorization_code", client_id: config.client, redirect_uri: redirect, code: answer.code, code_verifier: verifier,
    }),
  });
  const tokens = await response.json();
  if (!response.ok) throw new Error(`the issuer refused: ${tokens.error}`);
  if (claims(tokens.id_token).nonce !== nonce) throw new Error("the ID token is not bound to this page's key");
  return tokens.id_token;
}

// answerTo waits for the answer to one request. Others may arrive: any page can send the browser to the callback.
function answerTo(state) {
  return new Promise((resolve) => {
    const channel = new BroadcastChannel("login");
    channel.onmessage = ({ data }) => {
      if (data.state !== state) return;
      channel.close();
      resolve(data);
    };
  });
}

function claims(token) {
  const payload = token.split(".")[1].replaceAll("-", "+").replaceAll("_", "/");
  return JSON.parse(new TextDecoder().decode(Uint8Array.from(atob(payload), (c) => c.charCodeAt(0))));
}

// connect signs the server's nonce with the key at each login, those of reconnects too. Once the token has ended nobody
// can log in with it any more: the connection closes, and the person logs in again.
function connect(config, key, token) {
  return wsconnect({
    servers: config.nats,
    name: "browser example",
    authenticator: [nkeyAuthenticator(key.getSeed()), tokenAuthenticator(token)],
    maxReconnectAttempts: -1,
  });
}

async function start() {
  const config = await (await fetch("config.json")).json();
  const key = nkeys.createUser();
  say("log in in the other window …");
  const token = await logIn(config, key);
  say("connecting …");
  const nc = await connect(config, key, token);
  nc.closed().then((err) => say(`disconnected${err ? `: ${err.message}` : ""}: log in again`));

  const info = await nc.request("$SYS.REQ.USER.INFO");
  element("account").textContent = info.json().data.account;
  element("key").textContent = key.getPublicKey();
  element("token").textContent = token;
  element("session").hidden = element("publish").hidden = false;
  nc.subscribe("app.>", {
    callback: (err, msg) => (element("messages").textContent += err ? `${err.message}\n` : `${msg.subject}: ${msg.string()}\n`),
  });
  element("publish").onsubmit = (event) => {
    event.preventDefault();
    nc.publish(element("subject").value, element("text").value);
  };
  say(`connected as ${claims(token).preferred_username}`);
}

element("login").onclick = () => start().catch((err) => say(err.message));

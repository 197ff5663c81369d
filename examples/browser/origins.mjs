// What pages of two origins get from a service, in a real browser, for origins_test.go: the page of PORTAL, which is a configured
// origin, signs up for an account and waits for it; that of FOREIGN tries to. Both hosts have a cookie. The environment also has
// the SERVICE, a TOKEN, the NAMEs of the accounts, and the CHROMIUM to run.
import { chromium } from "playwright-core";

const { CHROMIUM, SERVICE, PORTAL, FOREIGN, TOKEN, NAME, FOREIGN_NAME } = process.env;

// signUp runs in the page.
async function signUp({ service, token, name }) {
  const call = async (operation, body) => {
    const response = await fetch(`${service}/v1/${operation}`, {
      method: "POST", body: JSON.stringify(body),
      headers: { Authorization: `Bearer ${token}`, "Content-Type": "application/json" },
    });
    const answer = await response.json();
    if (!response.ok) throw new Error(`${answer.reason}: ${answer.message}`);
    return answer;
  };
  let account = await call("account.signup", { name });
  while (account.state !== "active") {
    await new Promise((resolve) => setTimeout(resolve, 200));
    account = await call("account.get", { account: name });
  }
  return account;
}

// attempt runs in the page: what a script gets of a call that is made in that way.
async function attempt({ service, path, init }) {
  try {
    const response = await fetch(service + path, init);
    return `${response.type} ${response.status} ${await response.text()}`;
  } catch (err) {
    return err.name;
  }
}

// ways are calls that a page can try: with a preflight, and those that a browser sends without asking first.
const ways = (token, name) => {
  const body = JSON.stringify({ name });
  const bearer = { Authorization: `Bearer ${token}`, "Content-Type": "application/json" };
  return {
    preflight: { path: "/v1/account.signup", init: { method: "POST", headers: bearer, body } },
    simple: { path: "/v1/account.signup", init: { method: "POST", headers: { "Content-Type": "text/plain" }, body } },
    opaque: { path: "/v1/account.signup", init: { method: "POST", mode: "no-cors", credentials: "include", body } },
    cookies: { path: "/v1/account.signup", init: { method: "POST", headers: bearer, credentials: "include", body } },
    read: { path: "/.well-known/gatehouse", init: {} },
  };
};

const browser = await chromium.launch({ executablePath: CHROMIUM, args: ["--no-sandbox"] });
try {
  const context = await browser.newContext();
  const answers = [];
  context.on("response", (response) => {
    if (response.url().startsWith(SERVICE)) answers.push(response);
  });
  const open = async (origin) => {
    const page = await context.newPage();
    page.setDefaultTimeout(60_000);
    await page.goto(origin);
    return page;
  };
  const portal = await open(PORTAL);
  const foreign = await open(FOREIGN);
  const result = { foreign: {}, portal: {} };
  for (const [way, call] of Object.entries(ways(TOKEN, FOREIGN_NAME))) {
    result.foreign[way] = await foreign.evaluate(attempt, { service: SERVICE, ...call });
  }
  const { cookies, read } = ways(TOKEN, NAME);
  result.portal.cookies = await portal.evaluate(attempt, { service: SERVICE, ...cookies, path: "/v1/whoami" });
  result.portal.read = (await portal.evaluate(attempt, { service: SERVICE, ...read })).slice(0, 8);
  result.account = await portal.evaluate(signUp, { service: SERVICE, token: TOKEN, name: NAME });
  // A form of the page, which replaces it by the answer.
  await foreign.setContent(`<form method="post" enctype="text/plain" action="${SERVICE}/v1/account.signup"><button></button></form>`);
  const [answered] = await Promise.all([foreign.waitForResponse((r) => r.url().startsWith(SERVICE)), foreign.click("button")]);
  result.foreign.form = `${answered.status()}`;
  result.origins = [], result.refused = [], result.cookies = [];
  for (const answer of answers) {
    const headers = await answer.allHeaders();
    if (answer.status() >= 400) result.refused.push(`${answer.request().method()} ${answer.status()}`);
    result.origins.push(headers["access-control-allow-origin"] ?? "");
    if (headers["access-control-allow-credentials"]) result.origins.push("with credentials");
    if (headers["set-cookie"]) result.cookies.push(headers["set-cookie"]);
  }
  result.origins = [...new Set(result.origins)];
  result.cookies.push(...(await context.cookies()).map((c) => c.name));
  console.log(JSON.stringify(result));
} finally {
  await browser.close();
}

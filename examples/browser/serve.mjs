// Serves the page on loopback. Where it logs in is set by the environment; the defaults are those of gatehouse dev.
import { createServer } from "node:http";
import { readFile } from "node:fs/promises";

const port = Number(process.env.PORT ?? 8080);
const config = {
  issuer: process.env.ISSUER ?? "http://127.0.0.1:5556",
  client: process.env.CLIENT_ID ?? "gatehouse-cli",
  nats: process.env.NATS_WS ?? "ws://127.0.0.1:9222",
};

const files = {
  "/": ["index.html", "text/html; charset=utf-8"],
  "/callback": ["callback.html", "text/html; charset=utf-8"], // the redirect URI
  "/app.js": ["app.js", "text/javascript"],
  "/callback.js": ["callback.js", "text/javascript"],
  "/nats.js": ["nats.js", "text/javascript"], // made by npm install
  "/style.css": ["style.css", "text/css"],
};

// Only this page's own code runs, and it can talk to the issuer and to NATS alone: whoever gets code of their own into
// the page could use its key.
const headers = {
  "Content-Security-Policy": `default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self' ${new URL(config.issuer).origin} ${config.nats}; base-uri 'none'; form-action 'none'; frame-ancestors 'none'`,
  "Referrer-Policy": "no-referrer", // the callback's address holds the code
  "Cache-Control": "no-store",
};

const server = createServer(async (request, response) => {
  const { pathname } = new URL(request.url, "http://localhost");
  if (pathname === "/config.json") {
    response.writeHead(200, { ...headers, "Content-Type": "application/json" }).end(JSON.stringify(config));
    return;
  }
  const [file, type] = files[pathname] ?? [];
  if (!file) {
    response.writeHead(404, headers).end();
    return;
  }
  try {
    const body = await readFile(new URL(`page/${file}`, import.meta.url));
    response.writeHead(200, { ...headers, "Content-Type": type }).end(body);
  } catch (err) {
    response.writeHead(500, headers).end(`${file} cannot be read (${err.code}): run npm install\n`);
  }
});
server.listen(port, "127.0.0.1", () => console.log(`http://127.0.0.1:${server.address().port}`));

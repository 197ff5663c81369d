// An OIDC provider of the package oidc-provider. Run it with one argument, a file with a JSON object:
// {issuer, port, jwks: the private keys to publish, algorithm: that of the key to sign with, logout: where logout
// tokens of gatehouse-cli are sent, if anywhere}.
import { randomBytes } from "node:crypto";
import { readFileSync } from "node:fs";
import Provider from "oidc-provider";

const { issuer, port, jwks, algorithm, logout } = JSON.parse(readFileSync(process.argv[2], "utf8"));

const people = {
  alice: { groups: ["dev"], email: "alice@example.com", email_verified: true },
  carol: { groups: ["contractors"], email: "carol@example.com", email_verified: true },
};

const provider = new Provider(issuer, {
  jwks,
  cookies: { keys: [randomBytes(32).toString("hex")] },
  clients: [
    {
      client_id: "gatehouse-cli",
      application_type: "native", // any port of the loopback address
      token_endpoint_auth_method: "none",
      redirect_uris: ["http://127.0.0.1/callback"],
      grant_types: ["authorization_code", "refresh_token", "urn:ietf:params:oauth:grant-type:device_code"],
      id_token_signed_response_alg: algorithm,
      ...(logout && { backchannel_logout_uri: logout, backchannel_logout_session_required: true }),
    },
    {
      client_id: "batch",
      client_secret: "batch-secret",
      redirect_uris: [],
      response_types: [],
      grant_types: ["client_credentials"],
      id_token_signed_response_alg: algorithm,
    },
  ],
  findAccount: (_, id) => people[id] && { accountId: id, claims: () => ({ sub: id, ...people[id] }) },
  claims: { email: ["email", "email_verified"], groups: ["groups"] },
  conformIdTokenClaims: false, // the claims into the ID token, not only into userinfo
  issueRefreshToken: (_, client) => client.grantTypeAllowed("refresh_token"), // without prompt=consent, too
  // Without the dispatcher that keeps requests from loopback addresses, where logout tokens are sent here.
  fetch: (url, { dispatcher, ...options }) => fetch(url, options),
  ttl: { IdToken: 20 }, // seconds; renewed within its last quarter
  features: {
    deviceFlow: { enabled: true },
    backchannelLogout: { enabled: true },
    clientCredentials: { enabled: true },
    // Access tokens are opaque unless they are for a resource that wants JWTs.
    resourceIndicators: {
      enabled: true,
      defaultResource: (_, client) => (client.clientId === "batch" ? "urn:nats" : undefined),
      getResourceServerInfo: () => ({
        scope: "", audience: "nats", accessTokenFormat: "jwt", accessTokenTTL: 3600, jwt: { sign: { alg: algorithm } },
      }),
    },
  },
});

provider.on("backchannel.error", (_, error) => console.error("a logout token was not taken:", error.message));
provider.listen(port, "127.0.0.1");

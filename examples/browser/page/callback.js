// Hands the issuer's answer to the page that waits for it, which is of the same origin.
new BroadcastChannel("login").postMessage(Object.fromEntries(new URLSearchParams(location.search)));
window.close();

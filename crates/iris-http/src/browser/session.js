// Tells the page around this frame whether the login it knows of is still the browser's
// (OpenID Connect Session Management 1.0, with the messages of Keycloak 26.5).
"use strict";

const COOKIE = "KEYCLOAK_SESSION";
let allowed = null;
let asked = false;

function cookie() {
  for (const pair of document.cookie.split(";")) {
    const at = pair.indexOf("=");
    if (pair.slice(0, at).trim() === COOKIE) {
      return pair.slice(at + 1).trim();
    }
  }
  return "";
}

async function storage() {
  if (!("hasStorageAccess" in document) || (await document.hasStorageAccess())) {
    return true;
  }
  try {
    await document.requestStorageAccess();
    return true;
  } catch {
    return false;
  }
}

async function hash(text) {
  const digest = await crypto.subtle.digest("SHA-256", new TextEncoder().encode(text));
  const bytes = String.fromCharCode(...new Uint8Array(digest));
  return btoa(bytes).replace(/\+/g, "-").replace(/\//g, "_").replace(/=/g, "");
}

// Which client may ask from which origin, by the server's word; it is asked once.
async function permit(client, origin) {
  if (allowed === null) {
    if (asked) {
      return false;
    }
    asked = true;
    const url = new URL(location.origin + location.pathname + "/init");
    url.searchParams.set("client_id", client);
    url.searchParams.set("origin", origin);
    const answer = await fetch(url);
    if (!answer.ok) {
      return false;
    }
    allowed = client + " " + origin;
  }
  return allowed === client + " " + origin;
}

async function status(client, origin, session) {
  if (!(await storage()) || !(await permit(client, origin))) {
    return "error";
  }
  const current = cookie();
  if (current === "") {
    return session === "" ? "unchanged" : "changed";
  }
  // Pages without TLS have no digests: there a login counts as the one that is known.
  if (!window.crypto || !crypto.subtle) {
    return session === "" ? "changed" : "unchanged";
  }
  return (await hash(session)) === current ? "unchanged" : "changed";
}

window.addEventListener("message", async (event) => {
  const parts = typeof event.data === "string" ? event.data.split(" ") : [];
  if (parts.length === 2 && event.source) {
    const answer = await status(parts[0], event.origin, parts[1]);
    event.source.postMessage(answer, event.origin);
  }
});

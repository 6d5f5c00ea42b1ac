// Tells the page around this frame whether the cookies of the step before were kept.
"use strict";

const kept = document.cookie.includes("KEYCLOAK_3P_COOKIE");
for (const name of ["KEYCLOAK_3P_COOKIE", "KEYCLOAK_3P_COOKIE_PLAIN"]) {
  document.cookie = name + "=; Max-Age=0; SameSite=None; Secure";
  document.cookie = name + "=; Max-Age=0";
}
parent.postMessage(kept ? "supported" : "unsupported", "*");
